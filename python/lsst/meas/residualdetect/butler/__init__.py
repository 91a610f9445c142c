# This file is part of meas_residualdetect.
#
# This program is free software: you can redistribute it and/or modify
# it under the terms of the GNU General Public License as published by
# the Free Software Foundation, either version 3 of the License, or
# (at your option) any later version.
#
# This program is distributed in the hope that it will be useful,
# but WITHOUT ANY WARRANTY; without even the implied warranty of
# MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
# GNU General Public License for more details.
#
# You should have received a copy of the GNU General Public License
# along with this program.  If not, see <https://www.gnu.org/licenses/>.


"""What the Butler holds, in either world, to and from the core types."""

from .forms import (
    CATALOGUE_FORMS,
    IMAGE_FORMS,
    MODEL_FORMS,
    Catalogues,
    DataModelError,
    Images,
    Models,
    image_form_of,
    load_catalogues,
    load_images,
    load_models,
)

__all__ = [
    "CATALOGUE_FORMS",
    "IMAGE_FORMS",
    "MODEL_FORMS",
    "Catalogues",
    "DataModelError",
    "Images",
    "Models",
    "image_form_of",
    "load_catalogues",
    "load_images",
    "load_models",
]
