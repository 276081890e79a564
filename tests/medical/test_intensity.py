"""Between CT numbers, MR values and images around [0, 1]."""

import pytest
import torch

from medical.intensity import HounsfieldWindow, peak
from medical.transmission import WATER, attenuation


def test_window_ends_and_the_way_back():
    hu = torch.tensor([-1000.0, 0.0, 250.0, 1500.0, 3071.0])
    image = HounsfieldWindow().to_image(hu)
    torch.testing.assert_close(image, torch.tensor([0.0, 0.4, 0.5, 1.0, 1.6284]))
    torch.testing.assert_close(HounsfieldWindow().to_hounsfield(image), hu)


def test_below_the_window_is_air():
    assert float(HounsfieldWindow().to_image(torch.tensor(-1024.0))) == 0


def test_images_are_proportional_to_attenuation():
    hu = torch.tensor([-1000.0, -200.0, 40.0, 900.0])
    torch.testing.assert_close(attenuation(hu), HounsfieldWindow().to_image(hu) * 2.5 * WATER)


def test_an_empty_window_is_refused():
    with pytest.raises(ValueError, match="low must be less than high, got 10 and 10 HU"):
        HounsfieldWindow(low=10, high=10)


def test_peak_is_the_quantile_of_what_is_not_zero():
    values = torch.cat([torch.zeros(5000), torch.arange(1, 1001).float()])
    assert peak(values[torch.randperm(len(values), generator=torch.Generator().manual_seed(0))]) == 999
    assert peak(-3j * torch.ones(7)) == 3
    assert peak(torch.zeros(3)) == 1
