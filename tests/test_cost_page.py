"""The tables of METHODOLOGY and docs/ that follow from declared costs are what these say now."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


def example(name: str) -> ModuleType:
    """examples/NAME.py."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"examples/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def cost_page() -> ModuleType:
    return example("cost_page")


def test_the_table_of_fss_is_up_to_date() -> None:
    printed = "\n".join(example("fss_cost").page())
    assert printed in (ROOT / "docs/differences.md").read_text("utf-8")


def test_the_page_is_up_to_date(cost_page: ModuleType) -> None:
    printed = "\n".join(cost_page.page(128))
    assert printed in (ROOT / "METHODOLOGY.md").read_text("utf-8")


def test_a_floor_by_hand(cost_page: ModuleType) -> None:
    """10 hops of 5 ms, 1 MB at 1 Gbit/s, 26 MB at 13 GB/s; 10 MB dealt at 1 Gbit/s."""
    costs = cost_page.Costs(hops=10, online=1_000_000, dealt=10_000_000, weights=26_000_000)
    link = cost_page.Link(delay_s=0.005, rate_bit_s=1e9)
    assert costs.online_s(link) == pytest.approx(0.050 + 0.008 + 0.002)
    assert costs.offline_s(1) == pytest.approx(0.080)
