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

"""``residualdetect register-model``."""

from __future__ import annotations

import click

__all__ = ["register_model"]


@click.command("register-model", short_help="Put a model package into a Butler repository.")
@click.argument("repo")
@click.argument("model")
@click.option("--collection", required=True, help="Run that is to hold it, such as models/NAME.")
@click.option("--name", help="Name of the data set, in place of residual_detection_model.")
def register_model(repo: str, model: str, collection: str, name: str | None) -> None:
    """Put a model package into a Butler repository.

    REPO is the stack's or an embedded one; MODEL a folder, or a name under
    models/. The task then reads it from there: give the collection among its
    inputs, and model_source=butler. The run's provenance says which it was.

    \b
    Example:
      residualdetect register-model REPO mask_rcnn_ugrizy --collection models/mask_rcnn_ugrizy
      pipetask run -b REPO -i INPUTS,models/mask_rcnn_ugrizy ... \\
          -c residualDetection:model_source=butler
    """
    from lsst.daf.butler import Butler

    from ..butler.model_packages import MODEL_PACKAGE
    from ..butler.model_packages import register_model as register
    from ..io.remarks import reason_of
    from ..network.package import load_package

    package = load_package(model)
    try:
        butler = Butler.from_config(repo, writeable=True)
    except (FileNotFoundError, LookupError) as error:
        raise ValueError(f"{repo} is no Butler repository: {reason_of(error)}") from error
    ref = register(butler, package, collection, name=name or MODEL_PACKAGE)
    click.echo(f"{package.name}: {ref.datasetType.name} in {ref.run}, {ref.id}")
