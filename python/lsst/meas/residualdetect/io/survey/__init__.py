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


"""FITS images of any survey as scenes.

=============== ==========================================================
module          what it knows
=============== ==========================================================
`fits_scene`    `read_fits_scene`: all bands, one grid, one scene
`fits_band`     image, noise, mask and PSF of one band, from what is given,
                else from the image's file, else from a file beside it
`fits_planes`   which extension of a file is what; compressed files, cubes
`fits_noise`    variances from weights, rms, inverse variances, pixels
`fits_mask`     planes of masks by name
`fits_psf`      PSFs from images, stacks, PSFEx models and widths
`star_psf`      a PSF from the stars of an image
`sky_wcs`       where pixels are on the sky
`units`         fluxes in nanojansky
`band_names`    what surveys call the bands
`known_table`   catalogues and segmentation maps of known sources
=============== ==========================================================
"""

from .fits_psf import PsfWidth
from .fits_scene import FitsScene, band_of_file, read_fits_scene

__all__ = ["FitsScene", "PsfWidth", "band_of_file", "read_fits_scene"]
