//! Files of many layouts, against what `datasets` chooses, and what is said where nothing fits.

use serde_json::Value;

use super::*;
use crate::snapshots::says;

/// What a program without audio and images would read.
fn extensions() -> Vec<String> {
    let containers = ["jsonl", "json", "ndjson", "csv", "tsv", "parquet", "txt"];
    let compressed = ["", ".gz", ".zst"];
    let both = containers.iter().flat_map(|one| compressed.map(|two| format!("{one}{two}")));
    both.collect()
}

/// All splits of a subset as `train: a.jsonl, b.jsonl; test: c.jsonl`, or the error.
fn shown(listing: &[&str], card: Option<&str>, subset: Option<&str>) -> String {
    let one = |split: Option<&str>| {
        choose(listing, card, &DataFilesQuery { subset, split, files: &[] }, &extensions())
    };
    let all = match splits(listing, card, &extensions()) {
        Ok(all) => all,
        Err(error) => return error.to_string(),
    };
    let found = all.iter().find(|one| match subset {
        Some(_) => one.subset.as_deref() == subset,
        None => one.default,
    });
    let Some(found) = found.filter(|found| !found.splits.is_empty()) else {
        return one(None).unwrap_err().to_string();
    };
    let mut shown = Vec::new();
    for split in &found.splits {
        match one(Some(split)) {
            Ok(chosen) => {
                assert_eq!(chosen.split.as_ref(), Some(split));
                assert_eq!(chosen.subset, found.subset);
                shown.push(format!("{split}: {}", chosen.files.join(", ")));
            }
            Err(error) => shown.push(format!("{split}: {error}")),
        }
    }
    shown.join("; ")
}

/// Where we mean to differ from `datasets`: the case, and a part of what we say.
const DIFFERENT: &[(&str, &str)] = &[
    // Errors there.
    ("upper-case ending", "train: train.CSV; test: test.csv"),
    ("code with the name of a split", "train: data.jsonl"),
    ("splits of two formats", "train: train.jsonl; test: test.csv"),
    ("data_dir with data_files", "train: cola/train-00000-of-00001.parquet"),
    ("patterns that match nothing", "none of it is in the data set"),
    ("data_files is null", "train: train.jsonl"),
    ("a number for a name", "train: a.jsonl"),
    ("a split with a dash in its shards", "train-en: data/train-en-00000-of-00001.parquet"),
    // Errors here.
    ("hidden files, named/four", "none of it is in the data set"),
    ("an alias in a subset", "is an alias, which is not followed\n  at README.md:7:15"),
    ("a key twice", "the key `data_files` appears twice\n  at README.md:6:3"),
    ("front matter without an end", "has no end\n  at README.md:2:1"),
    ("only binary files", "the data set has no file that can be read"),
    // Another subset is broken, not the one that is asked for.
    ("two default subsets/cola", "train: cola/test-00000-of-00001.parquet, "),
    ("two default subsets/default", "train: sst2/test-00000-of-00001.parquet, "),
    // Notes are no data.
    ("texts beside the data", "train: data.jsonl"),
];

#[test]
fn files_are_those_that_datasets_chooses() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/data_files.json");
    let reference: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let (mut problems, mut same) = (Vec::new(), 0);
    let mut different: Vec<&str> = DIFFERENT.iter().map(|(case, _)| *case).collect();
    for case in reference["cases"].as_array().unwrap() {
        let files: Vec<&str> =
            case["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
        for asked in case["asked"].as_array().unwrap() {
            let subset = asked["subset"].as_str();
            let name = case["case"].as_str().unwrap().to_owned();
            let name = subset.map_or(name.clone(), |subset| format!("{name}/{subset}"));
            let ours = shown(&files, case["card"].as_str(), subset);
            if let Some((found, part)) = DIFFERENT.iter().find(|(case, _)| {
                *case == name || name.rsplit_once('/').is_some_and(|it| it.0 == *case)
            }) {
                different.retain(|one| one != found);
                if !ours.contains(part) {
                    problems.push(format!("{name}: {ours}"));
                }
                continue;
            }
            let theirs = match asked["splits"].as_object() {
                None => "error".to_owned(),
                Some(splits) => {
                    let splits = splits.iter().map(|(split, files)| {
                        let files = files.as_array().unwrap();
                        let files: Vec<&str> =
                            files.iter().map(|file| file.as_str().unwrap()).collect();
                        format!("{split}: {}", files.join(", "))
                    });
                    splits.collect::<Vec<_>>().join("; ")
                }
            };
            let agrees = if theirs == "error" { ours.contains("error[") } else { ours == theirs };
            same += usize::from(agrees);
            if !agrees {
                problems.push(format!("{name}\n  ours   {ours}\n  theirs {theirs}"));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    assert_eq!(different, [""; 0], "differences that the reference does not have");
    assert!(same > 140, "only {same} cases were compared");
}

/// Asks for files, a split or a subset, and shows the choice or the error.
fn ask(listing: &[&str], card: Option<&str>, wanted: DataFilesQuery) -> String {
    match choose(listing, card, &wanted, &extensions()) {
        Ok(chosen) => format!("{} ({})", chosen.files.join(" "), chosen.why),
        Err(error) => error.to_string(),
    }
}

const SUBSETS: &str = "---\nconfigs:\n- config_name: en\n  sep: ';'\n  data_files:\n  \
                       - {split: train_sft, path: [en/a.jsonl, en/b*]}\n  \
                       - {split: test_sft, path: en/c.jsonl}\n\
                       - config_name: de\n  data_dir: de\n- config_name: fr\n  data_dir: fr\n---\n";
const FILES: [&str; 6] =
    ["README.md", "de/train.csv", "den/train.csv", "en/a.jsonl", "en/b.jsonl", "en/c.jsonl"];

#[test]
fn a_choice_says_what_decided() {
    let en = DataFilesQuery { subset: Some("en"), split: Some("train_sft"), files: &[] };
    assert_eq!(
        ask(&FILES, Some(SUBSETS), en),
        "en/a.jsonl en/b.jsonl (the card lists them; the card's settings `sep` are not followed)"
    );
    let de = DataFilesQuery { subset: Some("de"), ..DataFilesQuery::default() };
    assert_eq!(ask(&FILES, Some(SUBSETS), de), "de/train.csv (file names tell the split)");
    assert_eq!(
        ask(&["a.jsonl", "b.jsonl", "c.csv"], None, DataFilesQuery::default()),
        "a.jsonl b.jsonl (no name tells a split, so all of it is `train`; left out, since it is \
         another format: `c.csv`)"
    );
    let default = DataFilesQuery { subset: Some("default"), split: Some("train"), files: &[] };
    assert_eq!(
        ask(&["b/train/x.json", "a/train/x.json"], None, default),
        "a/train/x.json b/train/x.json (names of folders tell the split)"
    );
}

#[test]
fn available_subsets_and_splits_are_listed() {
    let found = splits(&FILES, Some(SUBSETS), &extensions()).unwrap();
    let found: Vec<String> = found
        .iter()
        .map(|one| format!("{:?} {} {}", one.subset.as_deref(), one.default, one.splits.join(" ")))
        .collect();
    assert_eq!(
        found,
        [
            "Some(\"en\") false train_sft test_sft",
            "Some(\"de\") false train",
            "Some(\"fr\") false "
        ]
    );
    let found = splits(&["test.csv"], None, &extensions()).unwrap();
    let expected = Available { subset: None, default: true, splits: vec!["test".to_owned()] };
    assert_eq!(found, [expected]);
}

#[test]
fn what_is_not_there_is_answered_with_what_is() {
    let card = Some(SUBSETS);
    let subset = |subset| DataFilesQuery { subset, ..DataFilesQuery::default() };
    let split = |split| DataFilesQuery { subset: Some("en"), split, files: &[] };
    let mut messages = String::new();
    for wanted in [
        subset(None),
        subset(Some("ge")),
        subset(Some("en")),
        subset(Some("fr")),
        split(Some("test")),
        split(Some("train_sft[:10%]")),
        split(Some("train_sft+test_sft")),
    ] {
        let found = ask(&FILES, card, wanted);
        messages += &format!("{wanted:?} gives {found}\n");
    }
    says(
        messages,
        snapbox::str![[r#"
DataFilesQuery { subset: None, split: None, files: [] } gives error[data]: the data set has several subsets, and none of them is the default
  because it has `en`, `de`, `fr`

hint: name one, e.g. `subset = "en"`
DataFilesQuery { subset: Some("ge"), split: None, files: [] } gives error[data]: the data set has no subset `ge`
  because it has `de`, `en`, `fr`
DataFilesQuery { subset: Some("en"), split: None, files: [] } gives error[data]: the subset `en` has no split `train`, which is read if none is named
  because it has `train_sft`, `test_sft`

hint: name one, e.g. `split = "train_sft"`
DataFilesQuery { subset: Some("fr"), split: None, files: [] } gives error[data]: the data set has no file in `fr` that can be read

hint: endings that can be read: `.jsonl`, `.jsonl.gz`, `.jsonl.zst`, `.json`, `.json.gz`, `.json.zst`, `.ndjson`, `.ndjson.gz`, `.ndjson.zst`, `.csv`, `.csv.gz`, `.csv.zst`, `.tsv`, `.tsv.gz`, `.tsv.zst`, `.parquet`, `.parquet.gz`, `.parquet.zst`, `.txt`, `.txt.gz`, `.txt.zst`
DataFilesQuery { subset: Some("en"), split: Some("test"), files: [] } gives error[data]: the subset `en` has no split `test`
  because it has `test_sft`, `train_sft`

hint: name one, e.g. `split = "test_sft"`
DataFilesQuery { subset: Some("en"), split: Some("train_sft[:10%]"), files: [] } gives error[data]: `train_sft[:10%]` asks for a part of a split

hint: name the whole split: `split = "train_sft"`

hint: `train.max_steps` bounds how much is trained on, `data.val_size` holds some out
DataFilesQuery { subset: Some("en"), split: Some("train_sft+test_sft"), files: [] } gives error[data]: `train_sft+test_sft` asks for several splits

hint: name each of them in a data set entry of its own

"#]],
    );
    let found = ask(&["de/a.csv"], None, subset(Some("de")));
    says(
        &found,
        snapbox::str![[r#"
error[data]: the data set has no subset `de`
  because its card declares none

hint: it has such a folder: `files = ["de/**"]`
"#]],
    );
    let found = ask(&["test.csv"], None, DataFilesQuery::default());
    says(
        &found,
        snapbox::str![[r#"
error[data]: the data set has no split `train`, which is read if none is named
  because it has `test`
  because file names tell the split

hint: name one, e.g. `split = "test"`
"#]],
    );
}

#[test]
fn named_files_alone_decide() {
    let listing =
        ["README.md", "a.csv", "a[1].csv", "b.parquet", "d/c.jsonl.gz", "d/e/x.bin", "train.txt"];
    let broken = Some("---\nconfigs: [\n---\n");
    let mut messages = String::new();
    for files in [
        vec!["b.parquet", "a.csv"],
        vec!["*.csv", "a.csv"],
        vec!["a[1].csv"],
        vec!["d/**", "train.txt"],
        vec!["a.csv", "x/*.csv"],
        vec!["c.csv"],
        vec!["d"],
        vec!["{a,b}.csv"],
        vec!["d/e/*"],
        vec!["../a.csv"],
        vec!["README.md"],
    ] {
        let files: Vec<String> = files.into_iter().map(str::to_owned).collect();
        let wanted = DataFilesQuery { subset: Some("x"), split: Some("y[:1]"), files: &files };
        let found = ask(&listing, broken, wanted);
        messages += &format!("{files:?} gives {found}\n");
    }
    says(
        messages,
        snapbox::str![[r#"
["b.parquet", "a.csv"] gives a.csv b.parquet (`files` names them)
["*.csv", "a.csv"] gives a.csv a[1].csv (`files` names them)
["a[1].csv"] gives a[1].csv (`files` names them)
["d/**", "train.txt"] gives d/c.jsonl.gz train.txt (`files` names them)
["a.csv", "x/*.csv"] gives error[data]: no file of the data set matches `x/*.csv`

hint: a file that is there: `a.csv`
["c.csv"] gives error[data]: no file of the data set matches `c.csv`

hint: a file that is there: `a.csv`
["d"] gives error[data]: no file of the data set matches `d`

hint: it is a folder; for all files in it write `d/**`
["{a,b}.csv"] gives error[data]: no file of the data set matches `{a,b}.csv`

hint: braces are letters; write one pattern for each case
["d/e/*"] gives error[data]: `d/e/*` names no file to read
  because `d/e/x.bin` cannot be read

hint: endings that can be read: `.jsonl`, `.jsonl.gz`, `.jsonl.zst`, `.json`, `.json.gz`, `.json.zst`, `.ndjson`, `.ndjson.gz`, `.ndjson.zst`, `.csv`, `.csv.gz`, `.csv.zst`, `.tsv`, `.tsv.gz`, `.tsv.zst`, `.parquet`, `.parquet.gz`, `.parquet.zst`, `.txt`, `.txt.gz`, `.txt.zst`
["../a.csv"] gives error[data]: `../a.csv` leads out of the data set

hint: paths begin in the folder of the data set
["README.md"] gives error[data]: `README.md` names no file to read
  because `README.md` cannot be read

hint: endings that can be read: `.jsonl`, `.jsonl.gz`, `.jsonl.zst`, `.json`, `.json.gz`, `.json.zst`, `.ndjson`, `.ndjson.gz`, `.ndjson.zst`, `.csv`, `.csv.gz`, `.csv.zst`, `.tsv`, `.tsv.gz`, `.tsv.zst`, `.parquet`, `.parquet.gz`, `.parquet.zst`, `.txt`, `.txt.gz`, `.txt.zst`

"#]],
    );
}

#[test]
fn data_sets_without_readable_files_say_why() {
    let mut messages = String::new();
    for listing in [
        vec![],
        vec!["README.md", "weights.bin"],
        vec!["squad.py", "README.md"],
        vec!["data/train.tar.gz"],
        vec!["state.json", "dataset_info.json", "data-00000-of-00001.arrow"],
        vec![".hidden.jsonl", "LICENSE.txt", "__x/a.jsonl"],
    ] {
        let found = ask(&listing, None, DataFilesQuery::default());
        messages += &format!("{listing:?} gives {found}\n");
    }
    says(
        messages,
        snapbox::str![[r#"
[] gives error[data]: the data set has no file that can be read
  because it is empty

hint: endings that can be read: `.jsonl`, `.jsonl.gz`, `.jsonl.zst`, `.json`, `.json.gz`, `.json.zst`, `.ndjson`, `.ndjson.gz`, `.ndjson.zst`, `.csv`, `.csv.gz`, `.csv.zst`, `.tsv`, `.tsv.gz`, `.tsv.zst`, `.parquet`, `.parquet.gz`, `.parquet.zst`, `.txt`, `.txt.gz`, `.txt.zst`
["README.md", "weights.bin"] gives error[data]: the data set has no file that can be read

hint: endings that can be read: `.jsonl`, `.jsonl.gz`, `.jsonl.zst`, `.json`, `.json.gz`, `.json.zst`, `.ndjson`, `.ndjson.gz`, `.ndjson.zst`, `.csv`, `.csv.gz`, `.csv.zst`, `.tsv`, `.tsv.gz`, `.tsv.zst`, `.parquet`, `.parquet.gz`, `.parquet.zst`, `.txt`, `.txt.gz`, `.txt.zst`
["squad.py", "README.md"] gives error[data]: the data set has no file that can be read
  because `squad.py` may be a data set script; scripts are not run

hint: look on the hub for a copy of the data set as Parquet

hint: endings that can be read: `.jsonl`, `.jsonl.gz`, `.jsonl.zst`, `.json`, `.json.gz`, `.json.zst`, `.ndjson`, `.ndjson.gz`, `.ndjson.zst`, `.csv`, `.csv.gz`, `.csv.zst`, `.tsv`, `.tsv.gz`, `.tsv.zst`, `.parquet`, `.parquet.gz`, `.parquet.zst`, `.txt`, `.txt.gz`, `.txt.zst`
["data/train.tar.gz"] gives error[data]: the data set has no file that can be read
  because `data/train.tar.gz` is an archive, and archives are not unpacked

hint: endings that can be read: `.jsonl`, `.jsonl.gz`, `.jsonl.zst`, `.json`, `.json.gz`, `.json.zst`, `.ndjson`, `.ndjson.gz`, `.ndjson.zst`, `.csv`, `.csv.gz`, `.csv.zst`, `.tsv`, `.tsv.gz`, `.tsv.zst`, `.parquet`, `.parquet.gz`, `.parquet.zst`, `.txt`, `.txt.gz`, `.txt.zst`
["state.json", "dataset_info.json", "data-00000-of-00001.arrow"] gives error[data]: the data set has no file that can be read
  because `data-00000-of-00001.arrow` is an Arrow file of `save_to_disk`

hint: write it as Parquet: `dataset.to_parquet("train.parquet")`

hint: endings that can be read: `.jsonl`, `.jsonl.gz`, `.jsonl.zst`, `.json`, `.json.gz`, `.json.zst`, `.ndjson`, `.ndjson.gz`, `.ndjson.zst`, `.csv`, `.csv.gz`, `.csv.zst`, `.tsv`, `.tsv.gz`, `.tsv.zst`, `.parquet`, `.parquet.gz`, `.parquet.zst`, `.txt`, `.txt.gz`, `.txt.zst`
[".hidden.jsonl", "LICENSE.txt", "__x/a.jsonl"] gives error[data]: the data set has no file that can be read

hint: endings that can be read: `.jsonl`, `.jsonl.gz`, `.jsonl.zst`, `.json`, `.json.gz`, `.json.zst`, `.ndjson`, `.ndjson.gz`, `.ndjson.zst`, `.csv`, `.csv.gz`, `.csv.zst`, `.tsv`, `.tsv.gz`, `.tsv.zst`, `.parquet`, `.parquet.gz`, `.parquet.zst`, `.txt`, `.txt.gz`, `.txt.zst`

"#]],
    );
}

#[test]
fn a_broken_card_says_how_to_do_without_it() {
    let found = ask(&["a.csv"], Some("---\nconfigs:\n- a: [\n---\n"), DataFilesQuery::default());
    says(
        &found,
        snapbox::str![[r#"
error[data]: the front matter is not valid YAML
  at README.md:4:1
  because while parsing a node, did not find expected node content

hint: `files` chooses files without the card, e.g. `files = ["data/*.parquet"]`
"#]],
    );
    let mut messages = String::new();
    for path in ["https://example.org/a.csv", "../a.csv", "b.csv", "README.md", "[]"] {
        let card = format!("---\nconfigs:\n- config_name: x\n  data_files: {path}\n---\n");
        let found = ask(&["README.md", "a.csv"], Some(&card), DataFilesQuery::default());
        messages += &format!("{path}: {found}\n");
    }
    says(
        messages,
        snapbox::str![[r#"
https://example.org/a.csv: error[data]: `https://example.org/a.csv` is not a path in a data set: addresses are not followed
  at README.md

hint: `files` chooses files without the card, e.g. `files = ["data/*.parquet"]`
../a.csv: error[data]: `../a.csv` leads out of the data set
  at README.md

hint: paths begin in the folder of the data set

hint: `files` chooses files without the card, e.g. `files = ["data/*.parquet"]`
b.csv: error[data]: no file of the data set matches `b.csv`
  at README.md

hint: a file that is there: `a.csv`

hint: `files` chooses files without the card, e.g. `files = ["data/*.parquet"]`
README.md: error[data]: `README.md` names no file to read
  at README.md
  because `README.md` cannot be read

hint: endings that can be read: `.jsonl`, `.jsonl.gz`, `.jsonl.zst`, `.json`, `.json.gz`, `.json.zst`, `.ndjson`, `.ndjson.gz`, `.ndjson.zst`, `.csv`, `.csv.gz`, `.csv.zst`, `.tsv`, `.tsv.gz`, `.tsv.zst`, `.parquet`, `.parquet.gz`, `.parquet.zst`, `.txt`, `.txt.gz`, `.txt.zst`

hint: `files` chooses files without the card, e.g. `files = ["data/*.parquet"]`
[]: error[data]: no file of the split `train` of `x` can be read
  at README.md
  because the card names no file

hint: `files` chooses files without the card, e.g. `files = ["data/*.parquet"]`

"#]],
    );
}

#[test]
fn hostile_cards_and_names_cost_little() {
    // Paths held against patterns, since the last time it was asked.
    let matched = || pattern::MATCHED.with(|count| count.replace(0));
    let names: Vec<String> =
        (0..20_000).map(|file| format!("d{}/{file}.jsonl", file % 50)).collect();
    let listing: Vec<&str> = names.iter().map(String::as_str).collect();
    let many = |line: &str| {
        format!("---\nconfigs:\n- config_name: x\n  data_files:\n{}---\n", line.repeat(1200))
    };
    let found = ask(&listing, Some(&many("  - '**/*?*?*?*.csv'\n")), DataFilesQuery::default());
    says(
        &found,
        snapbox::str![[r#"
error[data]: more than 1000 patterns with wildcards
  at README.md

hint: name folders with `**`

hint: `files` chooses files without the card, e.g. `files = ["data/*.parquet"]`
"#]],
    );
    assert_eq!(matched(), 0, "refused before any is looked for");
    let long = format!("  - {}.csv\n", "x".repeat(800));
    says(
        ask(&listing, Some(&many(&long)), DataFilesQuery::default()),
        snapbox::str![[r#"
error[data]: no file of the data set matches `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx.csv`
  at README.md

hint: `files` chooses files without the card, e.g. `files = ["data/*.parquet"]`
"#]],
    );
    let subsets: String = (0..10_000)
        .map(|one| format!("- config_name: s{one}\n  data_dir: d{}\n", one % 50))
        .collect();
    let card = format!("---\nconfigs:\n{subsets}---\n");
    assert_eq!(splits(&listing, Some(&card), &extensions()).unwrap().len(), 10_000);
    let found = ask(&listing, Some(&card), DataFilesQuery::default());
    assert!(found.len() < 1000, "{found}");
    says(
        &found,
        snapbox::str![[r#"
error[data]: the data set has several subsets, and none of them is the default
  because it has `s0`, `s1`, `s2`, `s3`, `s4`, `s5`, `s6`, `s7`, `s8`, `s9` and 9990 more

hint: name one, e.g. `subset = "s0"`
"#]],
    );
    let escape = DataFilesQuery { subset: Some("\u{1b}[2J"), ..DataFilesQuery::default() };
    assert!(!ask(&listing, Some(&card), escape).contains('\u{1b}'));
    assert_eq!(matched(), 0, "a folder and a path are found by their names");
}
