#!/usr/bin/env python3
"""Which files make up a subset and split: what Hugging Face `datasets` chooses, for our tests.

  python3 data_files.py            writes data_files.json beside this script
Each case is a folder of empty files and perhaps a card; `load_dataset_builder` is asked for the
default subset and for every subset of the card. Files are compared as sets, so they are written
sorted and once each. Needs datasets (written with 5.2.0); no network.
"""
import json, logging, os, tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
import datasets
from huggingface_hub import DatasetCard

datasets.logging.set_verbosity(logging.CRITICAL)
logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)


def shards(prefix, count, ending):
    return [f"{prefix}-{i:05d}-of-{count:05d}{ending}" for i in range(count)]


def card(configs, rest="license: mit\n"):
    return f"---\n{rest}configs:\n{configs}---\n\n# A data set\n"


GLUE = [f"{task}/{split}-00000-of-00001.parquet"
        for task in ("cola", "sst2") for split in ("train", "validation", "test")]
SFT = [path for split in ("train_sft", "test_sft", "train_gen")
       for path in shards(f"data/{split}", 2, "-a3ecf92756993583.parquet")]

# name: (files, card or None)
CASES = {
    # No card: names decide.
    "one file": (["databricks-dolly-15k.jsonl", "README.md"], None),
    "one json file": (["openhermes2_5.json"], None),
    "splits by file name": (["train.csv", "test.csv"], None),
    "splits by file name in data": (["data/train.jsonl", "data/test.jsonl"], None),
    "numbered files": ([f"train_{i}.csv" for i in range(4)] + ["test_0.csv", "test_1.csv"], None),
    "splits by folder": (["data/train/shard_0.csv", "data/train/shard_1.csv",
                          "data/test/shard_0.csv", "extra.csv"], None),
    "sharded": (shards("data/train", 3, ".csv") + shards("data/test", 1, ".csv")
                + shards("data/random", 3, ".csv"), None),
    "sharded with a hash": (shards("data/train", 2, "-a09b74b3ef9c3b56.parquet"), None),
    "sharded, splits of its own": (SFT, None),
    "sharded beside other files": (shards("data/train", 2, ".parquet") + ["data/test.parquet",
                                   "extra/train.parquet"], None),
    "sharded but not in data": (shards("train", 2, ".parquet") + shards("test", 1, ".parquet"),
                                None),
    "sharded in sub-folders": (GLUE, None),
    "keywords of validation": (["dev.jsonl", "train.jsonl"], None),
    "more keywords of validation": (["a.valid.json", "my-val.json", "x/validation_1.json"], None),
    "keywords of test": (["eval.jsonl", "evaluation.jsonl", "testing.jsonl", "test.jsonl"], None),
    "only test": (["test.jsonl"], None),
    "training": (["training_data.json", "testing.json"], None),
    "keyword inside a word": (["mytrain.csv", "contest.csv"], None),
    "keyword inside a date": (["2024-test-results.csv", "2024train.csv"], None),
    "keyword at the end of a folder": (["wiki_train/a.txt", "wiki_test.v2/a.txt"], None),
    "keyword is the whole name": (["train", "a.jsonl"], None),
    "folder before file name": (["train/test_a.csv", "train/train_b.csv"], None),
    "two keywords in one path": (["test/train/x.csv"], None),
    "two keywords in one name": (["train_test.csv"], None),
    "languages over splits": (["en/train/a.parquet", "en/test/a.parquet", "de/train/a.parquet"],
                              None),
    "upper case": (["Train.csv", "TEST.csv"], None),
    "upper-case ending": (["train.CSV", "test.csv"], None),
    "compressed": (["2023-04-12_oasst_all.messages.jsonl.gz", "2023-04-12_oasst_all.trees.jsonl.gz"],
                   None),
    "compressed by folder": (["harmless-base/train.jsonl.gz", "harmless-base/test.jsonl.gz",
                              "helpful-base/train.jsonl.gz"], None),
    "hidden and special folders": ([".ipynb_checkpoints/train.csv", "__pycache__/train.csv",
                                    "data/.train.csv", "data/train.csv", "data/__x/train.csv"],
                                   None),
    "files of the library itself": (["dataset_infos.json", "dataset_info.json", "config.json",
                                     "dataset_dict.json", "a.json"], None),
    "texts beside the data": (["LICENSE.txt", "data.jsonl", "requirements.txt"], None),
    "statistics beside the data": (["data/train.jsonl", "data/train_stats.json"], None),
    "two formats, more of one": (["a.csv", "b.csv", "c.parquet"], None),
    "two formats, a draw": (["a.csv", "a.parquet"], None),
    "json and csv, a draw": (["a.csv", "a.json"], None),
    "three formats, a draw": (["a.txt", "a.tsv", "a.jsonl"], None),
    "text and tables of tabs": (["a.txt", "b.tsv"], None),
    "csv and tsv": (["a.csv", "b.tsv"], None),
    "json and jsonl": (["a.json", "b.jsonl", "c.ndjson"], None),
    "metadata does not count": (["metadata.jsonl", "metadata.csv", "a.txt"], None),
    "spaces and letters": (["données/mes données (1).jsonl", "数据/train 1.jsonl"], None),
    "dots in names": (["data.v1.0.jsonl", "data.v1.1.jsonl"], None),
    "only binary files": (["weights.bin", "notes.md"], None),
    "nothing": ([], None),
    "a script": (["repo.py", "dataset.bin"], None),
    "a script beside data": (["load.py", "train.jsonl"], None),
    "code with the name of a split": (["scripts/train.py", "data.jsonl"], None),
    "splits of two formats": (["train.jsonl", "test.csv"], None),
    # The card decides.
    "card without subsets": (["train.jsonl"], "---\nlicense: mit\n---\n# x\n"),
    "card without front matter": (["train.jsonl"], "# x\n"),
    "empty subsets": (["train.jsonl"], "---\nconfigs: []\n---\n"),
    "data_files is a text": (["a.jsonl", "b.jsonl"], card(
        "- config_name: default\n  data_files: a.jsonl\n")),
    "data_files is a list": (["a.jsonl", "b.jsonl", "c.jsonl"], card(
        "- config_name: default\n  data_files:\n  - c.jsonl\n  - a.jsonl\n")),
    "data_files by split": (SFT, card(
        "- config_name: default\n  data_files:\n" + "".join(
            f"  - split: {s}\n    path: data/{s}-*\n"
            for s in ("train_sft", "test_sft", "train_gen")))),
    "a list of paths": (["p1/a.jsonl", "p2/b.jsonl", "t.jsonl"], card(
        "- config_name: x\n  data_files:\n  - split: train\n    path:\n    - p1/*\n    - p2/*\n"
        "  - split: test\n    path: t.jsonl\n")),
    "subsets": (GLUE, card("".join(
        f"- config_name: {task}\n  data_files:\n" + "".join(
            f"  - split: {s}\n    path: {task}/{s}-*\n" for s in ("train", "validation", "test"))
        for task in ("cola", "sst2")))),
    "a default subset": (GLUE, card(
        "- config_name: cola\n  data_files: cola/*\n"
        "- config_name: sst2\n  data_files: sst2/*\n  default: true\n")),
    "a subset called default": (GLUE, card(
        "- config_name: cola\n  data_files: cola/*\n- config_name: default\n  data_files: '*/*'\n")),
    "two default subsets": (GLUE, card(
        "- config_name: cola\n  data_files: cola/*\n  default: true\n"
        "- config_name: default\n  data_files: sst2/*\n")),
    "data_dir": (GLUE, card("- config_name: cola\n  data_dir: cola\n"
                            "- config_name: sst2\n  data_dir: ./sst2/\n")),
    "data_dir with data_files": (GLUE, card(
        "- config_name: cola\n  data_dir: cola\n  data_files:\n"
        "  - split: train\n    path: train-*\n")),
    "data_dir, sharded": (shards("en/data/train", 2, ".parquet"), card(
        "- config_name: en\n  data_dir: en\n")),
    "a subset without files": (["train.jsonl", "test.jsonl"], card("- config_name: main\n")),
    "languages with dates": (shards("20231101.en/train", 2, ".parquet")
                             + shards("20231101.de/train", 1, ".parquet"), card("".join(
        f"- config_name: 20231101.{la}\n  data_files:\n  - split: train\n"
        f"    path: 20231101.{la}/train-*\n" for la in ("en", "de")))),
    "compressed by pattern": (["en/c4-train.00000-of-00002.json.gz",
                               "en/c4-train.00001-of-00002.json.gz",
                               "en/c4-validation.00000-of-00001.json.gz",
                               "en.noblocklist/c4-train.00000-of-00001.json.gz"], card(
        "- config_name: en\n  data_files:\n  - split: train\n    path: en/c4-train.*.json.gz\n"
        "  - split: validation\n    path: en/c4-validation.*.json.gz\n")),
    "a file that is not there": (["a.jsonl"], card(
        "- config_name: default\n  data_files:\n  - a.jsonl\n  - b.jsonl\n")),
    "a pattern that matches nothing": (["a.jsonl"], card(
        "- config_name: default\n  data_files:\n  - a.jsonl\n  - b*\n")),
    "patterns that match nothing": (["a.jsonl"], card(
        "- config_name: default\n  data_files:\n  - split: train\n    path: b*\n"
        "  - split: test\n    path: a.jsonl\n")),
    "a folder without a star": (["data/a.jsonl"], card(
        "- config_name: default\n  data_files: data\n")),
    "two stars": (["d/a.jsonl", "d/e/b.jsonl", "d/e/f/c.jsonl", "x.jsonl"], card(
        "- config_name: one\n  data_files: d/**\n- config_name: two\n  data_files: '**/*.jsonl'\n"
        "- config_name: three\n  data_files: d/**/c.jsonl\n"
        "- config_name: four\n  data_files: d/*\n- config_name: five\n  data_files: d/*/*\n")),
    "two stars inside a name": (["a.jsonl"], card(
        "- config_name: default\n  data_files: '**.jsonl'\n")),
    "question marks and classes": (["a1.jsonl", "a2.jsonl", "a3.jsonl", "ab.jsonl", "a12.jsonl"],
                                   card(
        "- config_name: one\n  data_files: a?.jsonl\n"
        "- config_name: two\n  data_files: 'a[1-2].jsonl'\n"
        "- config_name: three\n  data_files: 'a[!1-2].jsonl'\n"
        "- config_name: four\n  data_files: '[ab]*.jsonl'\n")),
    "braces are letters": (["a.jsonl", "b.jsonl", "{a,b}.jsonl", "{a}1.jsonl"], card(
        "- config_name: one\n  data_files: '{a,b}.jsonl'\n"
        "- config_name: two\n  data_files: '{a}*.jsonl'\n")),
    "a class that is not closed": (["[a.jsonl", "[ab.jsonl"], card(
        "- config_name: default\n  data_files: '[a*'\n")),
    "hidden files, named": ([".hidden/a.jsonl", "__special__/b.jsonl", "c.jsonl"], card(
        "- config_name: one\n  data_files: .hidden/*\n"
        "- config_name: two\n  data_files: '**'\n"
        "- config_name: three\n  data_files: __special__/*\n"
        "- config_name: four\n  data_files: '*/*'\n")),
    "an ignored file, named": (["config.json", "a.json"], card(
        "- config_name: one\n  data_files: config.json\n"
        "- config_name: two\n  data_files: '*.json'\n")),
    "a file of another kind, named": (["a.bin", "a.jsonl"], card(
        "- config_name: default\n  data_files: [a.jsonl, a.bin]\n")),
    "formats by pattern": (["d/a.csv", "d/b.jsonl", "d/c.jsonl", "d/x.txt"], card(
        "- config_name: default\n  data_files: d/*\n")),
    "formats by name": (["a.csv", "b.jsonl", "c.jsonl"], card(
        "- config_name: default\n  data_files: [a.csv, b.jsonl, c.jsonl]\n")),
    "overlapping patterns": (["d/a.jsonl", "d/b.jsonl"], card(
        "- config_name: default\n  data_files: [d/a.jsonl, d/*]\n")),
    "dots in a path": (["d/a.jsonl"], card("- config_name: default\n  data_files: ./d/./a.jsonl\n")),
    "a path to the outside": (["a.jsonl"], card(
        "- config_name: default\n  data_files: ../../../../*/hosts.txt\n")),
    "data_files is a mapping": (["a.jsonl"], card(
        "- config_name: default\n  data_files:\n    train: a.jsonl\n")),
    "data_files is a number": (["a.jsonl"], card("- config_name: default\n  data_files: 3\n")),
    "data_files is null": (["train.jsonl"], card("- config_name: default\n  data_files:\n")),
    "texts and splits mixed": (["a.jsonl", "b.jsonl"], card(
        "- config_name: default\n  data_files:\n  - a.jsonl\n  - split: test\n    path: b.jsonl\n")),
    "a split with a dash": (["a.jsonl"], card(
        "- config_name: default\n  data_files:\n  - split: a-b\n    path: a.jsonl\n")),
    "a split twice": (["a.jsonl", "b.jsonl"], card(
        "- config_name: default\n  data_files:\n  - split: train\n    path: a.jsonl\n"
        "  - split: train\n    path: b.jsonl\n")),
    "a third key": (["a.jsonl"], card(
        "- config_name: default\n  data_files:\n  - split: train\n    path: a.jsonl\n    x: y\n")),
    "no name of a subset": (["a.jsonl"], card("- data_files: a.jsonl\n")),
    "subsets are a mapping": (["a.jsonl"], card("  default:\n    data_files: a.jsonl\n")),
    "settings of the reader": (["a.csv"], card(
        "- config_name: default\n  data_files: a.csv\n  sep: ';'\n")),
    "Windows line ends": (["a.jsonl", "b.jsonl"], card(
        "- config_name: default\n  data_files: a.jsonl\n").replace("\n", "\r\n")),
    "blank lines first": (["a.jsonl", "b.jsonl"], "\n\n" + card(
        "- config_name: default\n  data_files: a.jsonl\n")),
    "flow style": (["a.jsonl", "b.jsonl"], card(
        "  [{config_name: default, data_files: [{split: train, path: [a.jsonl]}]}]\n")),
    "anchors elsewhere": (["a.jsonl", "b.jsonl"], card(
        "- config_name: default\n  data_files: a.jsonl\n",
        "tags: &t [x, y]\nother: *t\n")),
    "an alias in a subset": (["a.jsonl", "b.jsonl"], card(
        "- config_name: one\n  data_files: &f [a.jsonl]\n- config_name: two\n  data_files: *f\n")),
    "a key twice": (["a.jsonl", "b.jsonl"], card(
        "- config_name: default\n  data_files: a.jsonl\n  data_files: b.jsonl\n")),
    "a number for a name": (["a.jsonl"], card("- config_name: 2023\n  data_files: a.jsonl\n")),
    "default in words": (["a.jsonl", "b.jsonl"], card(
        "- config_name: one\n  data_files: a.jsonl\n  default: no\n"
        "- config_name: two\n  data_files: b.jsonl\n  default: Yes\n")),
    "front matter without an end": (["a.jsonl", "b.jsonl"],
                                    "---\nconfigs:\n- config_name: x\n  data_files: a.jsonl\n"),
    "a byte order mark": (["a.jsonl", "b.jsonl"], "\ufeff" + card(
        "- config_name: default\n  data_files: a.jsonl\n")),
    "dashes with blanks": (["a.jsonl", "b.jsonl"], card(
        "- config_name: default\n  data_files: a.jsonl\n").replace("---\n\n#", "---  \n\n#")),
    "the same table twice": (["train.csv", "train.parquet", "test.csv", "test.parquet"], None),
    "a split in several languages": (shards("data/train.en", 1, ".parquet")
                                     + shards("data/train.de", 1, ".parquet"), None),
    "a split with a dash in its shards": (shards("data/train-en", 1, ".parquet"), None),
    "broken YAML": (["a.jsonl"], "---\nconfigs: [\n---\n"),
    "a card that is a list": (["a.jsonl"], "---\n- a\n---\n"),
}


def make(folder, files, text):
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}" if name.endswith(".json") else b"")
    if text is not None:
        (folder / "README.md").write_bytes(text.encode())


def ask(folder, cache, name):
    try:
        builder = datasets.load_dataset_builder(str(folder), name, cache_dir=cache)
        found = builder.config.data_files
    except Exception as error:  # any of the library's errors is an answer
        text = str(error).replace(str(folder), "FOLDER").replace(folder.name, "FOLDER")
        return {"subset": name, "error": type(error).__name__, "text": text.strip()[:200]}
    splits = {}
    for split, paths in found.items():
        splits[str(split)] = sorted({os.path.relpath(p, folder).replace(os.sep, "/") for p in paths},
                               key=str.encode)
    return {"subset": name, "splits": splits}


def names(text):
    """The subsets of a card that can be asked for by name."""
    try:
        data = DatasetCard(text).data.to_dict()
        return [str(config["config_name"]) for config in data.get("configs") or []]
    except Exception:
        return []


def main():
    out = []
    with tempfile.TemporaryDirectory(prefix="cases") as top:
        for number, (name, (files, text)) in enumerate(CASES.items()):
            folder = Path(top).resolve() / f"case{number}" / "repo"
            folder.mkdir(parents=True)
            make(folder, files, text)
            cache = f"{top}/cache{number}"
            asked = [ask(folder, cache, one) for one in [None, *(names(text) if text else [])]]
            listing = sorted(set(files) | ({"README.md"} if text is not None else set()),
                             key=str.encode)
            out.append({"case": name, "files": listing, "card": text, "asked": asked})
    path = Path(__file__).with_suffix(".json")
    head = {"made_with": f"datasets {datasets.__version__}", "cases": out}
    path.write_text(json.dumps(head, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{len(out)} cases, {sum(len(case['asked']) for case in out)} questions")


if __name__ == "__main__":
    main()
