"""Questions and answers of chatterbot-corpus 1.3.3, English part: small talk, trivia, help with computers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fmhub import artifacts, data
from fmhub.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

FILES = {
    "ai": ("620a65787a56641db4a03e1419a7578e813967218cf6721e3ea4ef90844916aa", 8_340),
    "botprofile": ("1a694c5288f3f8f87d027d2f98dae71d02efa88e28853a6e5d27e6dbce907294", 1_385),
    "coding": ("1726a8900a82ee32dad559809564f9ae97df9c52f42a8f1fcde84b1d54b1d260", 64_012),
    "computers": ("a222c5a432efe4289e6c5edf1c3d99fd26c48df99db0ff893d1d5ab569f5b750", 3_744),
    "conversations": ("1cf105b5802f377b2dc145f741f7df85629c9ca27e450538165286a75b5e3416", 4_682),
    "emotion": ("510a018938c1880dd0f67e1ae458e26878c91a570daef5a84fb83713c89f0989", 10_337),
    "food": ("68eab2497721d03044d520b70c27d8a0d8ba8e505b3265fb3a1ff3e1a64c7124", 1_266),
    "gossip": ("d6f1b1613ed70821fc1c427bdd00395f58b77ff57d76fbe4ab8cb2038cf15c9b", 2_119),
    "greetings": ("0dd7eb8dcee8e2a38cd1a137bcfbd7f3eb732cddfa1bd396fac5a24b063a4d55", 1_035),
    "health": ("eb88edc5302d688ca096374c7e3f5b9d7cd821f053a17d80204c4acdc20ea4f5", 201),
    "history": ("0ff4beeb6ef9b641dc12e1039a149c6a03eb8f2e183702fad2b0997fcc1d63e3", 795),
    "humor": ("d2aa03a63f0e8e054589f642788afbc41b8c76f5d734c50901a9a63b359ea06b", 3_522),
    "literature": ("9361ff1478273d811259ca307a1e6be23a5e08e776a5bc5d9524fb13deb886f1", 4_077),
    "money": ("2911d9766625ff5c2feb3d784f2951b2ebd5e9658547efce7568d0282c49274b", 2_375),
    "movies": ("075ca9d91a527206c635c88bf0353323826a25a6f2057be1bc71888af389f842", 1_387),
    "politics": ("c436d5efedea6f715a8a811423a8edf396097771eb11e43b1f0a43a6aee7c2f0", 1_399),
    "psychology": ("5047c211d35f715af4fbc3398f111135e99d34afcd0905a661c40bdeb1413a58", 4_227),
    "science": ("3c259799bba36c67a1601fc264ec01ab051e9e63950734ce1ef644e022081fe7", 2_397),
    "sports": ("8d1bcc632cad4058e3b8490daa15dcd7c2a51790a7b9140b252600b794590403", 2_113),
    "tech_support": ("8a87cdf32579c8efdd9c5f3ef166ae9fb76dcf271b958f5e2265b9246b430655", 97_407),
    "trivia": ("3a9de77e6d82803d1ea3eba48cf6543c884908f4c4f50501fed69f88112994dc", 19_836),
}
ARTIFACT = data.Artifact(
    "chatterbot-english",
    tuple(data.File(f"{name}.yml", sha256, size) for name, (sha256, size) in FILES.items()),
    (data.Wheel("chatterbot-corpus==1.3.3", "chatterbot_corpus/data/english/"),),
)


def pairs() -> pa.Table:
    """`question`, `answer` and `topic`: the first two lines of every conversation, each pair once (its white space folded)."""
    import pyarrow as pa
    import yaml

    place, found = artifacts.fetch(ARTIFACT), dict[tuple[str, str], str]()
    for name in FILES:
        try:
            told = yaml.safe_load((place / f"{name}.yml").read_text("utf-8"))["conversations"]
        except (yaml.YAMLError, KeyError, TypeError) as error:
            raise DataError(f"{name}.yml has no conversations ({str(error)[:80]}).") from None
        for talk in told:
            if isinstance(talk, list) and len(talk) > 1:  # one string is half of a pair whose other half is lost
                question, answer = (" ".join(str(line).split()) for line in talk[:2])
                if question and answer:
                    found.setdefault((question, answer), name)
    questions, answers = zip(*found, strict=True)
    return pa.table({"question": questions, "answer": answers, "topic": list(found.values())})
