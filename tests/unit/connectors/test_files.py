"""The files that processes share: endpoints, and whole-file replacement under a lock."""

import multiprocessing
from pathlib import Path

import pytest

from connectors.endpoints import Endpoint, EndpointsError, read_endpoints, write_endpoints
from connectors.statefile import content_of, locked, replace

ONE = Endpoint("shop-a", "shop", "a", "v1", "127.0.0.1", 20_000, True)
TWO = Endpoint("shop-b", "shop", "b", "v1", "127.0.0.1", 20_001, False)


def test_endpoints_come_back_as_written_whatever_their_order(tmp_path: Path) -> None:
    path = tmp_path / "new" / "endpoints.json"
    assert read_endpoints(path) is None
    assert write_endpoints(path, [TWO, ONE])
    assert read_endpoints(path) == (ONE, TWO)


def test_the_same_endpoints_are_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.json"
    write_endpoints(path, [ONE, TWO])
    inode = path.stat().st_ino
    assert not write_endpoints(path, [TWO, ONE])
    assert path.stat().st_ino == inode
    assert write_endpoints(path, [ONE])
    assert path.stat().st_ino != inode


@pytest.mark.parametrize("content", ["", "{}", "[1]", '[{"workload": "w"}]', '[{"workload": "w", "port": "x"}]'])
def test_a_file_with_something_else_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    path = tmp_path / "endpoints.json"
    path.write_text(content)
    with pytest.raises(EndpointsError, match=r"endpoints\.json is not an endpoints file"):
        read_endpoints(path)


@pytest.mark.parametrize("durable", [False, True])
def test_a_replacement_leaves_nothing_behind(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "folder" / "state"
    replace(path, b"one", durable=durable)
    replace(path, b"two", durable=durable)
    assert content_of(path) == b"two"
    assert [one.name for one in path.parent.iterdir()] == ["state"]


def _count(folder: str, times: int) -> None:
    counter = Path(folder) / "counter"
    for _ in range(times):
        with locked(Path(folder) / "lock"):
            replace(counter, str(int(content_of(counter) or b"0") + 1).encode())


def test_no_change_is_lost_between_processes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_count, args=(str(tmp_path), 100)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert content_of(tmp_path / "counter") == b"300"
