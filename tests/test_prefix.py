"""The prefix cache: the same bits cold and warm, noticed when damaged, bounded, and never another data set's."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from fmhub import cache as store
from fmhub.cache import limit
from fmhub.errors import UsageError
from fmhub.recipe import Lora, Recipe
from fmhub.task import Encoded, Reads
from fmhub.training import prefix
from fmhub.training.network import Network
from fmhub.training.prefix import frozen_below, open_or_fill

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Stem:
    """Token ids, pixels or frames as they are."""

    kind: str = "bert"
    trained: bool = False

    def batch(self, encoded, rows, *, random, strength):
        values = [encoded.values[row] for row in rows]
        if self.kind != "bert":
            name = "pixel_values" if self.kind == "vit" else "input_features"
            extra = {"attention_mask": torch.ones(len(rows), 20, dtype=torch.long)} if self.kind == "whisper" else {}
            return {name: torch.from_numpy(np.stack(values)), **extra}
        longest = max(len(value) for value in values)
        ids = torch.stack([torch.from_numpy(np.pad(value, (0, longest - len(value)))) for value in values])
        return {"input_ids": ids, "attention_mask": (ids > 0).long()}

    def build(self, backbone, recipe, known=None):
        return torch.nn.Linear(1, 1) if self.trained else None


@dataclass(frozen=True)
class Head:
    tokens: str = "mean"
    layers: tuple[int, ...] = (-1,)

    @property
    def reads(self):
        return Reads(self.tokens, self.layers)

    def build(self, backbone, stem, recipe):
        return Mean()


class Mean(torch.nn.Module):
    def forward(self, features):
        states = features.x if isinstance(features.x, tuple) else (features.x,)
        return sum((place + 1) * state.mean(-1) for place, state in enumerate(states))


def encoded(kind: str = "bert", rows: int = 13, seed: int = 0) -> Encoded:
    random = np.random.default_rng(seed)
    if kind == "bert":
        values = [random.integers(3, 100, random.integers(1, 12)) for _ in range(rows)]
        return Encoded(np.array([len(value) for value in values]), values)
    shape = (3, 16, 16) if kind == "vit" else (8, 20)
    return Encoded(np.full(rows, 20), [random.standard_normal(shape, dtype=np.float32) for _ in range(rows)])


@pytest.fixture
def network(shaped):
    def make(kind="bert", layers="last:1", tokens="mean", trained=False, read=(-1,), **recipe):
        chosen = Recipe(lora=Lora(layers=layers, rank=2), budget=recipe.pop("budget", 40), **recipe)
        made = Network(shaped(kind), Stem(kind, trained), Head(tokens, read), chosen)
        torch.manual_seed(1)
        for name, parameter in made.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_()
        return made

    return make


@pytest.fixture
def said():
    return []


def opened(network, data, said, **changes):
    start, why = frozen_below(network)
    assert not why
    return open_or_fill(network, data, **{"fingerprint": "data", "start": start, "say": said.append, **changes})


@pytest.mark.parametrize("kind", ["bert", "vit", "whisper"])
@pytest.mark.parametrize("layers", ["last:1", "last:2", "head"])
def test_replayed_outputs_are_the_networks_own(network, said, kind, layers):
    made, data = network(kind, layers), encoded(kind)
    cache = opened(made, data, said)
    assert cache.start == {"last:1": 2, "last:2": 1, "head": 3}[layers]
    assert cache.states.dtype == np.float16
    rows = np.array([4, 0, 9, 12])
    batch = made.stem_spec.batch(data, rows, random=None, strength=0)
    with torch.no_grad():
        torch.testing.assert_close(made(batch, cache.batch(rows, CPU), cache.start), made(batch), atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("kind", ["bert", "vit", "llama"])
@pytest.mark.parametrize("layers", ["last:2", "head"])
def test_a_summary_is_of_a_token_that_knows_all(network, said, kind, layers):
    made, data = network(kind, layers, "summary"), encoded("bert" if kind == "llama" else kind)
    made.stem_spec = Stem("bert" if kind == "llama" else kind)
    assert made.reads == Reads("last" if kind == "llama" else "first")
    cache, rows = opened(made, data, said, exact=True), np.array([4, 0, 9, 12])
    batch = made.stem_spec.batch(data, rows, random=None, strength=0)
    with torch.no_grad():
        torch.testing.assert_close(made(batch, cache.batch(rows, CPU), cache.start), made(batch), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "vit", "whisper"])
@pytest.mark.parametrize("layers", ["last:1", "head"])
@pytest.mark.parametrize("tokens", ["all", "first"])
@pytest.mark.parametrize("read", [(-1, -2, -3), (-3, -1), (-2,)])
def test_layers_that_are_read_below_are_kept_beside(network, said, kind, layers, tokens, read):
    made, data = network(kind, layers, tokens, read=read), encoded(kind)
    cache = opened(made, data, said)
    assert cache.start == {"last:1": 3 + max(read), "head": 4 + max(read)}[layers]
    rows = np.array([4, 0, 9, 12])
    batch = made.stem_spec.batch(data, rows, random=None, strength=0)
    hidden, mask = made.encoder.prefix(batch, cache.start, made.head_spec.reads)
    if kind == "bert":
        hidden = hidden[mask]
    assert hidden.shape[-1] == cache.states.shape[1]
    torch.testing.assert_close(cache.batch(rows, CPU), hidden, atol=1e-2, rtol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(made(batch, hidden, cache.start), made(batch), atol=1e-4, rtol=1e-4)


@dataclass(frozen=True)
class Pieces(Stem):
    """Several pictures a row, as `windows` of the batch say."""

    def batch(self, encoded, rows, *, random, strength):
        values = [encoded.values[row] for row in rows]
        owner = np.repeat(np.arange(len(rows)), [len(value) for value in values])
        return {"pixel_values": torch.from_numpy(np.concatenate(values)), "windows": torch.from_numpy(owner[:, None])}


def test_an_example_may_be_several_windows(network, said):
    made = network("vit", "head")
    made.stem_spec, random = Pieces("vit"), np.random.default_rng(0)
    data = Encoded(np.array([20, 60, 20]), [random.standard_normal((count, 3, 16, 16), dtype=np.float32) for count in (1, 3, 1)])
    cache, rows = opened(made, data, said), np.array([2, 1])
    batch = made.stem_spec.batch(data, rows, random=None, strength=0)
    with torch.no_grad():
        torch.testing.assert_close(made(batch, cache.batch(rows, CPU), cache.start), made(batch), atol=2e-3, rtol=2e-3)
        again = opened(made, data, said).take(np.array([1]))
        torch.testing.assert_close(again.batch(np.array([0]), CPU), cache.batch(np.array([1]), CPU))
    assert len(said) == 1  # computed once


def test_a_warm_cache_changes_no_bit(network, said, home):
    made, data = network(), encoded()
    cold = opened(made, data, said)
    files = sorted(path for path in (home / "cache" / "prefix").rglob("states"))
    warm = opened(network(seed=5, tokens="first", lr=0.5), data, said)
    assert len(said) == 1
    assert "Computing 2 frozen layers once for 13 examples" in said[0]
    assert sorted((home / "cache" / "prefix").rglob("states")) == files
    rows = np.arange(13)
    assert torch.equal(cold.batch(rows, CPU), warm.batch(rows, CPU))


def test_training_mode_does_not_reach_the_cache(network, said, monkeypatch, tmp_path):
    one = opened(network().train(), encoded(), said).batch(np.arange(13), CPU)
    monkeypatch.setenv("FMHUB_HOME", str(tmp_path / "other"))
    assert torch.equal(one, opened(network().eval(), encoded(), said).batch(np.arange(13), CPU))


def test_a_fold_takes_its_rows(network, said):
    cache = opened(network(), encoded(), said)
    rows = np.array([7, 2, 11])
    assert torch.equal(cache.take(rows).batch(np.array([2, 0]), CPU), cache.batch(np.array([11, 7]), CPU))


def test_whatever_decides_a_bit_is_in_the_key(network, said, home):
    made, data = network(), encoded()
    other = encoded()
    other.values[3] = other.values[3] + 1
    opened(made, data, said)
    opened(made, data, said, fingerprint="other data")
    opened(made, other, said)
    opened(made, data, said, start=1)
    opened(network(length=7), data, said)
    opened(network(precision="bf16"), data, said)
    made.backbone.sha256 = "1" * 64
    opened(made, data, said)
    made.backbone.model.encoder.layer[0].output.dense.weight.data += 1
    opened(made, data, said)
    assert len(said) == len(list((home / "cache" / "prefix").glob("[0-9a-f]*"))) == 8


def test_a_run_in_bfloat16_computes_its_frozen_layers_so(network, said):
    data, rows = encoded(), np.arange(13)
    whole, half = (opened(network(precision=precision), data, said, exact=True).batch(rows, CPU) for precision in ("no", "bf16"))
    made = network(precision="bf16")
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        own, mask = made.encoder.prefix(made.stem_spec.batch(data, rows, random=None, strength=0), 2)
    torch.testing.assert_close(half, own[mask].float(), atol=5e-2, rtol=0)  # of batches cut otherwise
    assert 1e-4 < (half - whole).abs().max() < 5e-2


def test_half_precision_that_overflows_becomes_single(network, said):
    made, data = network(), encoded()
    made.backbone.model.encoder.layer[1].output.LayerNorm.weight.data *= 1e6
    cache = opened(made, data, said)
    assert cache.states.dtype == np.float32
    assert torch.isfinite(cache.batch(np.arange(13), CPU)).all()


@pytest.mark.parametrize("damage", ["cut", "bit", "index", "meta", "no meta", "meta lies", "no states"])
def test_a_damaged_cache_is_noticed_and_built_again(network, said, home, damage):
    made, data = network(), encoded()
    good = opened(made, data, said).batch(np.arange(13), CPU)
    (folder,) = (home / "cache" / "prefix").glob("[0-9a-f]*")
    states, index, meta = folder / "states", folder / "index", folder / "meta.json"
    if damage == "cut":
        states.write_bytes(states.read_bytes()[:-64])
    elif damage == "bit":
        states.write_bytes(bytes([states.read_bytes()[0] ^ 1]) + states.read_bytes()[1:])
    elif damage == "index":
        index.write_bytes(index.read_bytes()[::-1])
    elif damage == "meta":
        meta.write_text("{")
    elif damage == "no meta":
        meta.unlink()
    elif damage == "meta lies":
        meta.write_text(meta.read_text().replace('"rows": 13', '"rows": 14'))
    else:
        states.unlink()
    assert torch.equal(opened(made, data, said).batch(np.arange(13), CPU), good)
    assert "is damaged" in said[1]
    assert len(said) == 3
    opened(made, data, said)
    assert len(said) == 3


def test_a_half_filled_one_of_a_killed_process_is_replaced(network, said, home, monkeypatch):
    made, data = network(), encoded()
    with monkeypatch.context() as patch:
        patch.setattr(prefix.Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        patch.setattr(prefix.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            opened(made, data, said)
    assert list((home / "cache" / "prefix").glob(".*.tmp"))
    assert opened(made, data, said) is not None
    assert not list((home / "cache" / "prefix").glob(".*.tmp"))


def test_oldest_out_first_and_said(network, said, home, monkeypatch):
    made, root = network(), home / "cache" / "prefix"
    keys = []
    for seed in range(3):
        opened(made, encoded(seed=seed), said)
        (key,) = {path.name for path in root.glob("[0-9a-f]*")} - set(keys)
        keys.append(key)
        os.utime(root / key, (1000 + seed, 1000 + seed))
    opened(made, encoded(seed=0), said)  # used again: now the youngest
    sizes = [sum(file.stat().st_size for file in path.iterdir()) for path in root.glob("[0-9a-f]*")]
    monkeypatch.setenv("FMHUB_CACHE_LIMIT", str(sum(sizes)))
    opened(made, encoded(seed=3), said)
    left = {path.name for path in root.glob("[0-9a-f]*")}
    assert keys[0] in left
    assert keys[1] not in left
    assert any(f"Removed the prefix cache {keys[1]}" in line for line in said)


def test_one_too_large_is_left_out_and_said(network, said, home, monkeypatch):
    monkeypatch.setenv("FMHUB_CACHE_LIMIT", "1KB")
    assert opened(network(), encoded(), said) is None
    assert "FMHUB_CACHE_LIMIT" in said[-1]
    assert [path for path in (home / "cache" / "prefix").iterdir() if path.suffix != ".lock"] == []


def test_a_full_disk_is_no_failure(network, said, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prefix, "_write", full)
    assert opened(network(), encoded(), said) is None
    assert "No space left on device" in said[-1]


@pytest.mark.parametrize(("text", "size"), [("", 10 << 30), ("0", 0), ("500MB", 500 << 20), ("2 gb", 2 << 30), ("1.5K", 1536), ("7", 7)])
def test_limits_as_people_write_them(monkeypatch, text, size):
    monkeypatch.setenv("FMHUB_CACHE_LIMIT", text)
    assert limit() == size


@pytest.mark.parametrize("text", ["much", "GB", "-x", "10 parsecs", "inf", "nan", "-5GB", "1e400", "9" * 400, "."])
def test_a_limit_that_is_none_is_refused(monkeypatch, network, text):
    monkeypatch.setenv("FMHUB_CACHE_LIMIT", text)
    with pytest.raises(UsageError, match=r"FMHUB_CACHE_LIMIT=.* Write it as 500MB or 20GB"):
        limit()
    with pytest.raises(UsageError, match="FMHUB_CACHE_LIMIT"):
        frozen_below(network(layers="all"))  # before any training, though a baseline alone would keep something


def test_with_a_limit_of_zero_none_is_used(network, said, monkeypatch):
    made, data = network(), encoded()
    start, _ = frozen_below(made)
    assert opened(made, data, said) is not None
    monkeypatch.setenv("FMHUB_CACHE_LIMIT", "0")
    assert frozen_below(made) == (0, "FMHUB_CACHE_LIMIT is 0")
    assert open_or_fill(made, data, fingerprint="data", start=start, say=said.append) is None


def test_only_half_precision_is_forgiven_an_overflow(network, said, monkeypatch):
    monkeypatch.setattr(prefix, "_states", lambda *_: int(float("inf")))
    with pytest.raises(OverflowError, match="infinity"):
        opened(network(), encoded(), said)


def test_when_nothing_can_be_cached(network):
    assert frozen_below(network(layers="last:2")) == (1, "")
    assert frozen_below(network(layers="all"))[1].startswith("all layers are trained")
    assert "augment" in frozen_below(network(augment=0.5))[1]
    assert "stem" in frozen_below(network(trained=True))[1]
    made = network()
    made.backbone.model.embeddings.LayerNorm.weight.requires_grad_(True)
    assert "outside its layers" in frozen_below(made)[1]


def test_a_lower_limit_holds_for_what_is_there(network, said, home, monkeypatch):
    made, root = network(), home / "cache" / "prefix"
    kept = [opened(made, encoded(seed=seed), said) for seed in range(2)]
    (small, large) = sorted(store.size(folder) for folder in root.glob("[!.]*"))
    monkeypatch.setenv("FMHUB_CACHE_LIMIT", str(large))
    warm = opened(made, encoded(seed=0), said)
    assert torch.equal(warm.batch(np.arange(13), CPU), kept[0].batch(np.arange(13), CPU))
    assert len(list(root.glob("[!.]*"))) == len(list(root.glob(".*.lock"))) == 1
    assert len(said) == 3 and "Removed" in said[2]
    monkeypatch.setenv("FMHUB_CACHE_LIMIT", str(small // 2))
    assert opened(made, encoded(seed=0), said) is None  # as it would be cold
    assert list(root.iterdir()) == [] and "larger than FMHUB_CACHE_LIMIT" in said[-1]


def test_what_is_removed_while_it_is_read_is_read_to_its_end(network, said, home):
    made, rows = network(), np.arange(13)
    before = opened(made, encoded(), said).batch(rows, CPU)
    (folder,) = (home / "cache" / "prefix").glob("[!.]*")
    reading = opened(made, encoded(), said)  # mapped anew, no page of it read
    store.remove(folder)
    assert not folder.exists() and not store.half(folder).exists()
    assert torch.equal(reading.batch(rows, CPU), before)


def test_what_others_have_the_lock_of_stays(network, said, home, monkeypatch):
    made, root = network(), home / "cache" / "prefix"
    opened(made, encoded(seed=0), said)
    (first,) = root.glob("[!.]*")
    (root / ".filling.tmp").mkdir()
    monkeypatch.setenv("FMHUB_CACHE_LIMIT", str(store.size(first) * 3 // 2))
    with store.locked(first), store.locked(root / "filling"):
        opened(made, encoded(seed=1), said)
        assert first.exists() and (root / ".filling.tmp").exists()
    opened(made, encoded(seed=1), said)
    assert not first.exists() and not (root / ".filling.tmp").exists()


def test_what_killed_runs_left_is_removed(network, said, home):
    root = home / "cache" / "prefix"
    (root / ".killed.tmp").mkdir(parents=True)
    (root / ".killed.tmp" / "states").write_bytes(bytes(100))
    for name in ("killed", "evicted"):
        (root / f".{name}.lock").touch()
    opened(network(), encoded(), said)
    (folder,) = root.glob("[!.]*")
    assert sorted(path.name for path in root.glob(".*")) == [f".{folder.name}.lock"]


def test_one_that_has_vanished_is_not_damaged(network, said, monkeypatch):
    made, data = network(), encoded()
    opened(made, data, said)
    whole = store.meta_of

    def vanish(path):
        monkeypatch.setattr(store, "meta_of", whole)
        store.remove(path)
        return whole(path)

    monkeypatch.setattr(store, "meta_of", vanish)
    assert opened(made, data, said) is not None
    assert len(said) == 2 and not any("damaged" in line for line in said)

    def gone(path, *_):
        store.remove(path)
        raise FileNotFoundError(path)

    monkeypatch.setattr(prefix.os, "utime", gone)
    assert opened(made, data, said).batch(np.arange(13), CPU).isfinite().all()
    assert len(said) == 2


def test_runs_at_once_within_a_tight_limit(network, home, monkeypatch):
    made, data, lines = [network(), network()], [[encoded(seed=seed) for seed in range(place, place + 2)] for place in (0, 2)], []
    expected = [[opened(made[0], part, lines).batch(np.arange(13), CPU) for part in parts] for parts in data]
    monkeypatch.setenv("FMHUB_CACHE_LIMIT", str(max(store.size(folder) for folder in (home / "cache" / "prefix").glob("[!.]*"))))

    def work(place):
        for turn in range(40):
            cache = opened(made[place], data[place][turn % 2], lines)
            assert torch.equal(cache.batch(np.arange(13), CPU), expected[place][turn % 2])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))
    assert any("Removed" in line for line in lines)
    assert not any("damaged" in line or "left out" in line for line in lines)
    opened(made[0], data[0][0], lines)
    assert len(list((home / "cache" / "prefix").iterdir())) == 2  # one cache and its lock


def test_a_lock_is_the_one_that_stands_there(tmp_path):
    """Who waited for a lock whose file went with its last holder has nothing: another may hold the next file."""
    folder = tmp_path / "key"
    with ThreadPoolExecutor(1) as pool:
        taken = store.locked(folder)
        taken.__enter__()
        inside, leave = threading.Event(), threading.Event()

        def wait():
            with store.locked(folder):
                inside.set()
                leave.wait(10)

        waiting = pool.submit(wait)
        assert not inside.wait(0.2)
        taken.__exit__(None, None, None)
        assert inside.wait(10)
        with store.locked(folder, wait=False) as ours:
            assert not ours
        leave.set()
        waiting.result(10)
    assert list(tmp_path.iterdir()) == []


def test_a_device_has_its_own(network, monkeypatch):
    monkeypatch.setattr(prefix, "_weights", lambda *_: "")
    made, data = network(), encoded()
    here = prefix._identity(made, data, "data", 2)
    assert {key for key, value in prefix._identity(made.to("meta"), data, "data", 2).items() if value != here[key]} == {"device"}


def test_two_processes_do_not_fill_at_once(tmp_path):
    code = (
        "import sys; from pathlib import Path; from fmhub.cache import locked; print('ready', flush=True)\n"
        "with locked(Path(sys.argv[1])): print('in')"
    )
    with store.locked(tmp_path / "key"):
        other = subprocess.Popen([sys.executable, "-c", code, tmp_path / "key"], stdout=subprocess.PIPE, text=True)
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(0.3)
    assert other.communicate(timeout=60)[0] == "in\n"
