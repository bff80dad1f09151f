"""Submissions: nothing enters without a token, a claim is never taken, doing it again changes nothing, and hidden stays hidden."""

from __future__ import annotations

import contextlib
import copy
import json
import threading
import time
import types

import pyarrow as pa
import pytest
import sqlalchemy as sa
import uvicorn
from fastapi.testclient import TestClient
from test_board import make_run, predictions

from fmhub.cli import main
from fmhub.errors import FmhubError, UsageError
from fmhub.leaderboard import entries, gate, keys, log, schema, server, store, submissions, submit, tokens
from fmhub.leaderboard.verify import verify
from fmhub.runs import folder as run_folder

pytestmark = pytest.mark.usefixtures("unshipped")


@pytest.fixture
def opened(tmp_path):
    """A board whose keeper has a run and a baseline: its table is open for others."""
    return store.add(make_run(tmp_path / "own", predictions(0.9), run="own", baselines={"majority": predictions(0.5, seed=3)}))


@pytest.fixture
def client(opened):
    return TestClient(server.app(), base_url="http://127.0.0.1", raise_server_exceptions=False)


@pytest.fixture
def ann(opened):
    return bearer(tokens.new("ann", ["submit", "read"]))


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def submission(folder):
    """What `fmhub leaderboard submit` would send of a run, and the address it would go to."""
    found = submissions.submission_of(next(entries.from_folder(folder)))
    return found, f"/api/entries/{submissions.row_of(found)['id']}"


def signed(found):
    """The same, signed again after a change, and its address."""
    found = {**found, "signer": keys.public(), "signature": keys.sign(log.claim(submissions.row_of(found)))}
    return found, f"/api/entries/{submissions.row_of(found)['id']}"


def count():
    with schema.database() as engine, engine.connect() as connection:
        return tuple(connection.scalar(sa.select(sa.func.count()).select_from(table)) for table in (schema.ENTRIES, schema.LOG))


def test_an_entry_is_scored_by_the_board_and_the_same_one_stands_already(client, ann, tmp_path):
    found, where = submission(make_run(tmp_path / "r", predictions(0.8, seed=7), run="theirs", claimed=0.999))
    first = client.put(where, json=found, headers=ann)
    assert first.status_code == 201, first.text
    assert first.json()["scores"]["test"]["accuracy"]["value"] == pytest.approx(0.8, abs=0.05)
    again = client.put(where, json=found, headers=bearer(tokens.new("bob", ["submit"])))
    assert again.status_code == 200
    assert again.json()["scores"] == first.json()["scores"]
    (listed,) = [one for one in client.get("/api/entries").json() if one["name"] == "theirs"]
    assert (listed["submitter"], listed["status"], listed["rank"]) == ("ann", "recomputed", 2)
    assert listed["system"] == "minilm-l6 by ann"
    assert verify(receipt=first.json()["receipt"]) == (3, [])
    held = client.get(where).json()
    assert held["entry"]["submitter"] == "ann"
    assert keys.signed(log.claim(held["entry"]), held["log"]["signature"], held["log"]["signer"])


def test_another_manifest_of_the_same_predictions_is_refused_not_swallowed(client, ann, tmp_path):
    found, where = submission(make_run(tmp_path / "r", predictions(0.8, seed=7), run="theirs"))
    assert client.put(where, json=found, headers=ann).status_code == 201
    entry = {**found["entry"], "manifest": {**found["entry"]["manifest"], "cost": {"train_seconds": 1}}}
    other, there = signed({**found, "entry": entry})
    assert there == where
    answer, before = client.put(where, json=other, headers=ann), count()
    assert answer.status_code == 422 and "with another manifest, and an entry is never changed" in answer.text
    assert client.put(where, json=found, headers=ann).status_code == 200 and count() == before


def test_the_same_scores_as_where_it_was_made(client, ann, tmp_path):
    folder = make_run(tmp_path / "r", predictions(0.8, seed=7), run="theirs")
    found, where = submission(folder)
    here = next(entries.from_folder(folder))
    assert client.put(where, json=found, headers=ann).json()["scores"] == here.row["scores"]
    assert where.endswith(here.row["id"])


def change(path, value):
    def changed(found):
        *way, last = path
        at = found
        for key in way:
            at = at[key]
        if value is ...:
            del at[last]
        else:
            at[last] = value
        return found

    return changed


def rows(**columns):
    """Columns replaced by a function of the old values."""

    def changed(found):
        for name, function in columns.items():
            found["columns"][name] = function(found["columns"].get(name))
        return found

    return changed


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (change(["entry", "metric"], "accuracy"), "metric"),
        (change(["entry", "family"], "vision"), "family"),
        (change(["entry", "labels"], ["pos", "neg"]), "labels"),
        (change(["entry", "truth"], "0" * 64), "truth"),
        (change(["entry", "version"], "9"), "no table"),
        (change(["entry", "fingerprint"], "0" * 64), "no table"),
        (change(["entry", "task"], "fmhub-text:other"), "no table"),
        (change(["entry", "name"], "../../etc"), "pattern"),
        (change(["entry", "name"], "x" * 65), "pattern"),
        (change(["entry", "kind"], "god"), "'run' or 'baseline'"),
        (change(["entry", "manifest", "metrics"], ["accuracy"]), "metrics"),
        (change(["entry", "manifest", "own_data"], True), "False"),
        (change(["entry", "manifest", "cost"], {"train_seconds": "<script>"}), "valid"),
        (change(["entry", "manifest", "cost"], {"train_seconds": -1}), "greater"),
        (change(["entry", "manifest", "backbone"], "x"), "dictionary"),
        (change(["entry", "manifest", "more"], 1), "not permitted"),
        (change(["entry", "manifest", "environment"], {"python": "x" * 100_000}), "manifest may have"),
        (change(["columns", "id"], ...), "not those of predictions"),
        (change(["columns", "target"], ["pos"] * 400), "not those of predictions"),
        (rows(id=lambda ids: ids[:-1]), "no table"),
        (rows(id=lambda ids: [*ids[:-1], ids[0]]), "sorted"),
        (rows(id=lambda ids: [*ids[:-1], "zz"]), "399 of 400 examples of test, and 1 others"),
        (rows(id=lambda ids: [*ids[:-1], ids[-2]]), "predicted 2 times"),
        (rows(id=lambda ids: [1] * len(ids)), "holds int64"),
        (rows(split=lambda split: ["other"] * len(split)), "no split 'other'"),
        (rows(prediction=lambda all: [*all[:-1], {"a": 1}]), "no table"),
        (rows(prediction=lambda all: [None] * len(all)), "no label in row 0"),
        (rows(scores=lambda all: [*all[:-1], [0.5, 0.9]]), "sum to 1"),
        (rows(scores=lambda all: [*all[:-1], [0.5]]), "2 numbers"),
        (rows(scores=lambda all: [[0.5, None]] * len(all)), "scor"),
        (rows(scores=lambda all: [["a", "b"]] * len(all)), "2 numbers"),
        (rows(prediction=lambda all: [10**40] * len(all)), "no table"),
    ],
)  # fmt: skip
def test_what_is_not_an_entry_of_this_table_is_refused_in_words(client, ann, tmp_path, spoil, reason):
    found, _ = submission(make_run(tmp_path / "r", predictions(0.8, seed=7), run="theirs"))
    found, where = signed(spoil(copy.deepcopy(found)))
    before = count()
    answer = client.put(where, json=found, headers=ann)
    assert answer.status_code == 422, answer.text
    assert reason in answer.text
    assert count() == before


def test_a_signature_or_an_id_of_something_else_is_refused(client, ann, tmp_path):
    found, where = submission(make_run(tmp_path / "r", predictions(0.8, seed=7), run="theirs"))
    flip = {**found, "columns": {**found["columns"], "prediction": ["pos"] * 400}}
    assert client.put(where, json=flip, headers=ann).json()["detail"] == "The id is not the hash of what was sent"
    renamed = {**found, "entry": {**found["entry"], "manifest": {**found["entry"]["manifest"], "seeds": 9}}}
    assert "signature" in client.put(where, json=renamed, headers=ann).json()["detail"]
    assert client.put(where, content=b'{"entry": 1, "entry": 2}', headers=ann).status_code == 422
    assert client.put(where, content=b"\xff\xfe", headers=ann).status_code in (400, 422)
    assert client.put(where, content=b"[" * 100_000, headers=ann).status_code in (400, 422)
    assert count() == (2, 2)


def test_a_text_that_no_database_or_answer_can_hold_never_enters(client, ann, tmp_path):
    """As a key or a value, however deep: half a character once answered 201, and no page of the board could be made after it."""
    good, _ = submission(make_run(tmp_path / "r", predictions(0.8, seed=7), run="theirs"))
    before = count()
    for text in ("\ud800", "a\0b", "\udfff!"):
        for spoil in (
            change(["entry", "manifest", "options"], {"backbone": text}),
            change(["entry", "manifest", "options"], {"deep": [{"deeper": [1, {text: None}]}]}),
            change(["entry", "manifest", text], 1),
            rows(prediction=lambda all, text=text: [*all[:-1], text]),
            change([text], text),
        ):
            found, where = signed(spoil(copy.deepcopy(good)))
            answer = client.put(where, content=json.dumps(found), headers={**ann, "Content-Type": "application/json"})
            assert answer.status_code == 422, answer.text
            assert "NUL or half a character" in answer.json()["detail"]
    assert count() == before
    assert client.get("/board.json").status_code == client.get("/api/entries").status_code == 200


def test_a_refusal_says_what_is_wrong_and_not_what_was_sent(client, ann, tmp_path):
    found, where = submission(make_run(tmp_path / "r", predictions(0.8, seed=7), run="theirs"))
    found["entry"]["manifest"]["more"] = "sent" * 10_000
    (wrong,) = client.put(where, json=found, headers=ann).json()["detail"]
    assert wrong["loc"] == ["body", "entry", "manifest", "more"] and set(wrong) == {"type", "loc", "msg"}


ROUTES = [
    ("GET", "/", "read"), ("GET", "/board.json", "read"), ("GET", "/api/entries", "read"), ("GET", "/api/entries/{id}", "read"),
    ("GET", "/api/entries/{id}/predictions", "read"), ("PUT", "/api/entries/{id}", "submit"), ("GET", "/api/receipt", "read"),
    ("POST", "/api/verify", "verify"), ("POST", "/api/verify/{id}", "verify"), ("GET", "/openapi.json", "read"),
]  # fmt: skip


def test_every_route_of_the_document_is_known_to_the_gate(client):
    described = {(method.upper(), path.replace("{entry}", "{id}"))
                 for path, methods in client.get("/openapi.json").json()["paths"].items() for method in methods}  # fmt: skip
    assert described == {(method, path) for method, path, _ in ROUTES if path.startswith("/api/")}


@pytest.mark.parametrize("public", [True, False])
@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
def test_no_route_answers_the_wrong_token(opened, tmp_path, method, path, scope, public):
    client = TestClient(server.app(public=public), base_url="http://127.0.0.1")
    found, where = submission(make_run(tmp_path / "r", predictions(0.8, seed=7), run="theirs"))
    path = where if method == "PUT" else path.replace("{id}", opened[0])
    other = [name for name in tokens.SCOPES if name != scope]
    revoked, good = tokens.new("gone", [scope]), tokens.new("eve", [scope])
    tokens.revoke("gone")
    half = good[:-1] + ("0" if good[-1] != "0" else "1")
    without = {
        "none": {}, "wrong": bearer(half), "malformed": bearer("x" * 9000), "revoked": bearer(revoked),
        "basic": {"Authorization": "Basic !"},
        "other scheme": {"Authorization": "Digest a"}, "other scope": bearer(tokens.new("bob", other)),
    }  # fmt: skip
    before = count()
    for name, headers in without.items():
        answer = client.request(method, path, headers=headers, json=found if method == "PUT" else None)
        free = public and scope == "read" and name in ("none", "other scope")
        assert (answer.status_code == 200) if free else (answer.status_code in (401, 403)), name
        if not free:
            assert "own" not in answer.text and "neg" not in answer.text
    assert count() == before
    assert client.request(method, path, headers=bearer(good), json=found if method == "PUT" else None).status_code in (200, 201)


def test_what_no_rule_names_is_denied(client, ann):
    everything = bearer(tokens.new("root", list(tokens.SCOPES)))
    for method, path in [("GET", "/api"), ("GET", "/api/tokens"), ("DELETE", "/api/entries"), ("PATCH", f"/api/entries/{'0' * 64}"),
                         ("PUT", "/api/entries/x"), ("GET", "/api/entries/../../etc"), ("POST", "/"), ("GET", "/docs"),
                         ("PUT", "/openapi.json"),
                         ("GET", "/board.key"), ("GET", "/%2e%2e/board.sqlite"), ("OPTIONS", "/api/entries")]:  # fmt: skip
        assert client.request(method, path, headers=everything).status_code in (404, 405), (method, path)
    assert gate.RULES[-1][1].keys() == {"GET", "HEAD"}


def test_sizes_rates_and_quotas(opened, tmp_path):
    client = TestClient(server.app(limits=gate.Limits(body=1 << 20, rate=5, quota=2)), base_url="http://127.0.0.1")
    mine = bearer(tokens.new("ann", ["submit"]))
    assert client.put(f"/api/entries/{'0' * 64}", content=b"x" * (1 << 21), headers=mine).status_code == 413
    assert client.put(f"/api/entries/{'0' * 64}", content=iter([b"x" * (1 << 20)] * 2), headers=mine).status_code == 413
    assert client.put(f"/api/entries/{'0' * 64}", content=b"x", headers={**mine, "Content-Encoding": "gzip"}).status_code == 415
    answers = []
    for seed in range(4):
        found, where = submission(make_run(tmp_path / f"r{seed}", predictions(0.8, seed=20 + seed), run=f"r{seed}"))
        answers.append(client.put(where, json=found, headers=bearer(tokens.new("ann", ["submit"]))))
    assert [answer.status_code for answer in answers] == [201, 201, 429, 429]
    assert "2 entries in a day" in answers[-1].text
    assert [client.get("/api/receipt", headers=mine).status_code for _ in range(4)] == [200, 200, 429, 429]
    assert client.get("/api/receipt").status_code == 200, "one token's haste is not another's"


def test_buckets_fill_again_and_are_forgotten():
    buckets = gate.Buckets(60, most=3)
    assert [buckets.wait("a", 0.0) for _ in range(60)] == [0.0] * 60
    assert buckets.wait("a", 0.0) == pytest.approx(1.0)
    assert buckets.wait("a", 1.1) == 0.0
    for name in "bcde":
        buckets.wait(name, 2.0)
    assert len(buckets.held) == 3


def secret(table):
    """The same rows with a hidden part of 100 examples without targets."""
    more = predictions(0.7, n=100, seed=11)
    ids = pa.array([f"h{n}" for n in range(100)])
    more = more.set_column(0, "id", ids).set_column(1, "split", pa.array(["hidden"] * 100))
    more = more.set_column(more.schema.get_field_index("target"), "target", pa.nulls(100, pa.string()))
    return pa.concat_tables([table, more], promote_options="permissive")


def test_hidden_targets_rank_and_are_shown_to_nobody(tmp_path, capsys):
    truth = tmp_path / "truth.csv"
    truth.write_text("id,target\n" + "".join(f"h{n},{'pos' if n % 3 else 'neg'}\n" for n in range(100)))
    store.add(make_run(tmp_path / "first", predictions(0.9), run="first"))
    assert main(["leaderboard", "hide", "sentiment", str(truth)]) == 0
    assert main(["leaderboard", "hide", "sentiment", str(truth)]) == 2
    assert "has hidden targets already" in capsys.readouterr().err
    client = TestClient(server.app(), base_url="http://127.0.0.1")
    # the keeper's word makes the hidden part rank: who predicts it first unranks nobody
    before = store.board()[0]
    assert (before["split"], before["entries"][0]["rank"]) == ("hidden", None)
    assert client.get("/board.json").json()["tables"][0]["split"] == "hidden"
    ann, bob = (bearer(tokens.new(name, ["submit", "read"])) for name in ("ann", "bob"))
    plain, where = submission(make_run(tmp_path / "plain", predictions(0.8, seed=7), run="plain"))
    assert "no predictions of the hidden part" in client.put(where, json=plain, headers=ann).text
    found, where = submission(make_run(tmp_path / "r", secret(predictions(0.8, seed=8)), run="theirs"))
    answer = client.put(where, json=found, headers=ann)
    assert answer.status_code == 201, answer.text
    assert answer.json()["scores"]["hidden"]["accuracy"]["n"] == 100
    one = store.board()[0]
    assert one["split"] == "hidden"
    assert [(entry["name"], entry["rank"]) for entry in one["entries"]] == [("theirs", 1), ("first", None)]
    assert one["entries"][0]["score"]["n"] == 100
    assert "not scored on the hidden part" in one["entries"][1]["problem"]
    readers = {"ann": ann, "bob": bob, "nobody": {}, "ann reads": bearer(tokens.new("ann", ["read"]))}
    seen = {who: set(client.get(f"{where}/predictions", headers=headers).json()["split"]) for who, headers in readers.items()}
    assert seen == {"ann": {"test", "hidden"}, "bob": {"test"}, "nobody": {"test"}, "ann reads": {"test"}}
    for path in ("/", "/board.json", "/board.csv", "/api/entries", where, f"/entry-{where[-64:]}.html"):
        text = client.get(path, headers=bob).text
        assert '"h1"' not in text and "h42" not in text
    assert verify() == (2, [])
    mine = make_run(tmp_path / "mine", secret(predictions(0.7, seed=9)), run="mine")
    store.add(mine)
    assert verify() == (3, [])
    assert {entry["name"] for entry in store.board()[0]["entries"] if entry["rank"]} == {"theirs", "mine"}


@contextlib.contextmanager
def serving(limits=None, port=0):
    """A real server in a thread; its address."""
    running = uvicorn.Server(uvicorn.Config(server.app(limits=limits), port=port, log_level="error"))
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    finally:
        running.should_exit = True
        thread.join()


def test_the_command_submits_a_run_with_its_baselines_and_keeps_the_receipt(opened, home, tmp_path, monkeypatch, capsys):
    folder = make_run(tmp_path / "r", predictions(0.8, seed=7), run="the_ir.s", baselines={"majority": predictions(0.5, seed=3)})
    assert main(["leaderboard", "token", "new", "ann"]) == 0
    token = tmp_path / "token"
    token.write_text(capsys.readouterr().out)
    with serving() as url:
        assert main(["leaderboard", "submit", str(folder), "--to", url]) == 2
        assert "FMHUB_TOKEN" in capsys.readouterr().err
        assert main(["leaderboard", "submit", str(folder), "--to", url, "--token-file", str(token)]) == 0
        out, err = capsys.readouterr()
        assert "the_ir.s: taken" in out and "majority: stands already" in out
        assert "KiB sent" in err
        assert main(["leaderboard", "submit", str(folder), "--to", url, "--token-file", str(token), "--json"]) == 0
        assert [one["new"] for one in json.loads(capsys.readouterr().out)] == [False, False]
        held = sorted((home / "receipts").iterdir())
        assert len(held) == 2
        assert main(["leaderboard", "verify", "--all", "--receipt", str(held[0])]) == 0
        tokens.revoke("ann")
        assert main(["leaderboard", "submit", str(folder), "--to", url, "--token-file", str(token)]) == 1
        assert "refused (401)" in capsys.readouterr().err
    names = {entry["name"] for entry in store.board()[0]["entries"]}
    assert names == {"own", "majority", "the-ir-s"}


def test_what_was_declared_of_a_run_here_is_declared_there(tmp_path, monkeypatch):
    sent = []
    monkeypatch.setattr(submit, "_put", lambda url, body, *_: sent.append(json.loads(body)["entry"]) or (201, {}))
    monkeypatch.setattr(submit, "_keep", lambda *_: None)
    folder = make_run(tmp_path / "r", predictions(0.8, seed=7), run="leaked", baselines={"majority": predictions(0.5, seed=3)})
    store.add(folder)
    for reason in ("seen in pretraining", "seen, and twice"):
        assert main(["leaderboard", "declare", str(folder), reason]) == 0
    submit.submit(folder, "https://board.example", "token", lambda *_: None)
    store.add(other := make_run(tmp_path / "o", predictions(0.8, seed=8), run="clean"))
    submit.submit(other, "https://board.example", "token", lambda *_: None)
    assert {entry["name"]: entry["manifest"].get("contamination") for entry in sent} == {
        "leaked": "seen, and twice", "majority": None, "clean": None
    }  # fmt: skip


def test_submitting_retries_what_does_not_answer(opened, tmp_path, monkeypatch):
    folder = make_run(tmp_path / "r", predictions(0.8, seed=7), run="theirs")
    token = tokens.new("ann", ["submit"])
    waits = []
    monkeypatch.setattr(submit, "time", types.SimpleNamespace(sleep=waits.append))
    with serving() as url:
        pass
    with pytest.raises(FmhubError, match="did not take it in 8 tries"):
        submit.submit(folder, url, token, lambda *_: None)
    assert len(waits) == 8 and waits == sorted(waits)
    answers = [503, 429, 500]
    real = server.app()

    async def flaky(scope, receive, send):
        if scope["type"] == "http" and answers:
            await send({"type": "http.response.start", "status": answers.pop(), "headers": [(b"retry-after", b"1")]})
            await send({"type": "http.response.body", "body": b"{}"})
        else:
            await real(scope, receive, send)

    monkeypatch.setattr(server, "app", lambda **_: flaky)
    with serving() as url:
        (one,) = submit.submit(folder, url, token, lambda *_: None)
    assert one["new"] and not answers


@pytest.mark.parametrize("url", ["ftp://a", "board", "http://board.example", "https://"])
def test_a_token_is_never_sent_in_the_clear_or_to_no_board(url, opened, tmp_path):
    with pytest.raises(UsageError):
        submit.submit(make_run(tmp_path / "r", predictions(0.8), run="theirs"), url, "token", lambda *_: None)


def test_a_run_that_cannot_be_ranked_is_not_sent(opened, tmp_path):
    with pytest.raises(FmhubError, match="300 of 400"):
        submit.submit(make_run(tmp_path / "r", predictions(0.8, n=300), run="cut"), "https://board.example", "token", lambda *_: None)


def test_tokens_are_kept_as_hashes_alone_and_listed(home, capsys):
    token = tokens.new("ann", ["submit"])
    secret_half = token.rpartition("_")[2]
    assert secret_half.encode() not in b"".join(path.read_bytes() for path in home.glob("board.sqlite*"))
    assert tokens.holder(token) == tokens.Holder(token.split("_")[1], "ann", frozenset(["submit"]))
    assert main(["leaderboard", "token", "list"]) == 0
    shown = capsys.readouterr().out
    assert "ann" in shown and secret_half not in shown
    assert main(["leaderboard", "token", "revoke", token.split("_")[1]]) == 0
    assert tokens.holder(token) is None
    assert main(["leaderboard", "token", "revoke", "nobody"]) == 2
    assert main(["leaderboard", "token", "new", "No Name"]) == 2
    for nonsense in ("", "fmhub_", f"fmhub_{'0' * 16}_{'0' * 64}", token.upper(), token + "\n", "é"):
        assert tokens.holder(nonsense) is None


def test_a_record_that_was_changed_after_it_was_sent_is_another_entry(client, ann, tmp_path):
    folder = make_run(tmp_path / "r", predictions(0.8, seed=7), run="theirs")
    found, where = submission(folder)
    client.put(where, json=found, headers=ann)
    table = run_folder.read_table(folder / "predictions.parquet")
    run_folder.write_table(folder / "predictions.parquet", table.set_column(5, "prediction", predictions(0.81, seed=7)["prediction"]))
    other, elsewhere = submission(folder)
    assert elsewhere != where
    assert client.put(elsewhere, json=other, headers=ann).status_code == 201
