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
from __future__ import annotations

from dataclasses import MISSING, fields

import pytest

from lsst.meas.residualdetect.deblend import DeblendOptions
from lsst.meas.residualdetect.detection import DetectionOptions
from lsst.meas.residualdetect.detection.merged_peaks import CullPeaksOptions
from lsst.meas.residualdetect.injection.companion_options import CompanionOptions
from lsst.meas.residualdetect.tasks.deblend_options import DeblendOptionsConfig
from lsst.meas.residualdetect.tasks.detect_peaks import CullPeaksConfig, DetectPeaksConfig
from lsst.meas.residualdetect.tasks.evaluation_options import EvaluationOptionsConfig
from lsst.meas.residualdetect.tasks.make_companions import CompanionOptionsConfig
from lsst.meas.residualdetect.truth import EvaluationOptions

CONFIGS = {
    CompanionOptionsConfig: CompanionOptions,
    CullPeaksConfig: CullPeaksOptions,
    DeblendOptionsConfig: DeblendOptions,
    DetectPeaksConfig: DetectionOptions,
    EvaluationOptionsConfig: EvaluationOptions,
}
# Spelled otherwise in the config, or in the task's own.
ELSEWHERE = {"bad_planes", "temp_local_background_bin_size"}


@pytest.mark.parametrize(("config", "options"), CONFIGS.items())
def test_every_option_is_a_field_with_its_default_and_its_meaning(config, options):
    assert config().options() == options()
    for option in fields(options):
        if option.name in ELSEWHERE:
            continue
        field = config._fields[option.name]
        assert len(field.doc.split()) > 2 and not set(field.doc) & set("`~"), field.doc
        if option.default is not MISSING and not isinstance(option.default, tuple):
            assert field.default == option.default


def test_what_is_set_reaches_the_options_and_survives_the_butler():
    config = DetectPeaksConfig(threshold=4, band_priority=["r", "g"], do_temp_local_background=False)
    config.cull_peaks.rank_sufficient = 7
    config.temp_local_background.bin_size = 32
    kept = DetectPeaksConfig()
    kept.loadFromString(config.saveToString())
    assert kept.options() == DetectionOptions(
        threshold=4.0,
        band_priority=("r", "g"),
        do_temp_local_background=False,
        cull_peaks=CullPeaksOptions(rank_sufficient=7),
        temp_local_background_bin_size=32,
    )
    deblend = DeblendOptionsConfig(tolerance=0.01, n_threads=3).deblend_options(["SAT"])
    assert deblend == DeblendOptions(tolerance=0.01, n_threads=3, bad_planes=("SAT",))
    companions = CompanionOptionsConfig(brightness="snr", snr=[5.0, 6.0], sersic_indices=[1.0])
    assert companions.options() == CompanionOptions(brightness="snr", snr=(5.0, 6.0), sersic_indices=(1.0,))


@pytest.mark.parametrize(
    ("config", "name", "value"),
    [
        (CompanionOptionsConfig, "brightness", "bright"),
        (CompanionOptionsConfig, "snr", [3.0]),
        (CompanionOptionsConfig, "n_tries", 0),
        (CompanionOptionsConfig, "min_snr", -1.0),
        (CullPeaksConfig, "rank_considered", 0),
        (DeblendOptionsConfig, "max_iterations", 0),
        (DeblendOptionsConfig, "max_iterations", 2.5),
        (DeblendOptionsConfig, "sigma_pix", "wide"),
        (DetectPeaksConfig, "grow_sigma", -1.0),
        (EvaluationOptionsConfig, "neighbour_radius_pix", 0.0),
        (EvaluationOptionsConfig, "match_rule", "fate"),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(config, name, value):
    made = config()
    with pytest.raises((ValueError, TypeError), match=name):
        setattr(made, name, value)
        made.validate()
