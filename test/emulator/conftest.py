"""One emulator for all tests that need nothing special; reset before and after each."""
import pytest

from emulator_client import KEY, Emulator


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    emulator = Emulator(str(tmp_path_factory.mktemp("emulator")), "--key", KEY)
    yield emulator
    emulator.stop()


@pytest.fixture
def em(shared):
    shared.control("reset", {})
    yield shared
    assert shared.process.poll() is None, "the emulator died"
    shared.control("reset", {})
