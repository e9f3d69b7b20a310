//! Input that no person would write.

use std::time::{Duration, Instant};

use super::*;
use crate::snapshots::says;

/// Generous for a slow machine in debug mode; quadratic work on a mebibyte takes minutes.
const SOON: Duration = Duration::from_secs(20);

#[track_caller]
fn refused_soon(bytes: &[u8]) -> String {
    let start = Instant::now();
    let error = parse(Path::new("run.toml"), bytes, &[]).expect_err("must be refused");
    assert!(start.elapsed() < SOON, "took {:?}", start.elapsed());
    let text = error.to_string();
    assert!(text.len() < 50_000, "{} bytes of message", text.len());
    text
}

#[test]
fn a_large_file_is_refused_without_being_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("big.toml");
    std::fs::write(&path, "x = 1 # padding\n".repeat(700_000)).unwrap();
    let text = load(&path, &[]).unwrap_err().to_string();
    assert!(
        text.starts_with("error[config]: the config is larger than 1048576 bytes\n  at "),
        "{text}"
    );
    assert!(text.ends_with("\n\nhint: a config names data files, it does not hold them"));
    #[cfg(unix)]
    assert!(load(Path::new("/dev/zero"), &[]).is_err());
}

#[test]
fn a_folder_is_no_config() {
    let folder = tempfile::tempdir().unwrap();
    assert!(load(folder.path(), &[]).is_err());
}

#[test]
fn bytes_that_are_not_utf8_are_refused_at_their_place() {
    let text = refused_soon(b"seed = 1\n# \xc3\xa9\xff\n");
    assert_eq!(text, "error[config]: the config is not valid UTF-8\n  at run.toml:2:4");
}

#[test]
fn deep_nesting_is_refused() {
    for text in [
        format!("x = {}", "[".repeat(500_000)),
        format!("x = {}", "{a=".repeat(300_000)),
        format!("{}a = 1", "a.".repeat(400_000)),
        format!("[{}a]", "a.".repeat(400_000)),
    ] {
        let message = refused_soon(text.as_bytes());
        let told =
            message.starts_with("error[config]: not valid TOML: values are nested too deeply");
        assert!(told, "{message}");
    }
    // As deep as TOML is read here, the path is simply unknown.
    refused_soon(format!("{}a = 1", "a.".repeat(70)).as_bytes());
    let deep = format!("{}=1", "a.".repeat(100_000));
    assert!(read_with(LEAST, &[&deep]).is_err());
    let deep = format!("eval.prompts={}", "[".repeat(100_000));
    assert!(read_with(LEAST, &[&deep]).is_err());
}

#[test]
fn a_flood_of_problems_is_cut_short() {
    let numbered =
        |count: usize, line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<String>();
    for text in [
        numbered(80_000, &|index| format!("key{index}=1\n")),
        numbered(80_000, &|index| format!("[key{index}]\n")),
        numbered(80_000, &|_| "no value\n".to_owned()),
        numbered(80_000, &|_| "x=1\n".to_owned()),
        numbered(80_000, &|_| "x=yes\n".to_owned()),
        numbered(60_000, &|_| "[[data.train]]\n".to_owned()),
        format!("eval.prompts = [{}]", "1,".repeat(300_000)),
        format!("lora.target_modules = [{} 1]", numbered(80_000, &|index| format!("\"{index}\","))),
        "\u{0}".repeat(1_000_000),
        "\n".repeat(1_000_000),
        format!("{} = 1", "k".repeat(1_000_000)),
        format!("[{}]", "k".repeat(1_000_000)),
        format!("seed = {}", "9".repeat(1_000_000)),
        format!("train.lr_scheduler = \"{}\"", "c".repeat(1_000_000)),
        format!("model.base = \"{}\\n\"", "c".repeat(1_000_000)),
    ] {
        refused_soon(text.as_bytes());
    }
    let text = refused_soon(numbered(1000, &|index| format!("key{index}=1\n")).as_bytes());
    assert_eq!(text.matches("error[config]: unknown key").count(), 50);
    assert!(
        text.ends_with("error[config]: at least 952 more problems are not shown\n  at run.toml")
    );
}

#[test]
fn huge_and_strange_numbers_are_refused() {
    for value in
        ["99999999999999999999999999999999999999999999", "-1", "9223372036854775808", "1979-05-27"]
    {
        let text = message(&format!("seed = {value}\n{LEAST}"));
        assert!(text.starts_with("error[config]: `seed` must be an integer from 0 to"), "{text}");
    }
    for value in ["nan", "-nan", "inf", "-inf", "1e999", "-1e-4", "0", "true", "{}", "[1e-4]"] {
        let text = message(&format!("{LEAST}[train]\nlearning_rate = {value}\n"));
        let wanted =
            "error[config]: `train.learning_rate` must be a number above 0 and at most 1, not ";
        assert!(text.starts_with(wanted), "{text}");
    }
    assert_eq!(config(&format!("seed = {}\n{LEAST}", i64::MAX)).seed, i64::MAX as u64);
}

#[test]
fn names_that_leave_their_folder_are_refused() {
    for name in ["", ".", "..", "a/b", "../x", ".hidden", "-rf", "a b", "ü", "a\\\\b", "nul\\u0000"]
    {
        message(&format!("name = \"{name}\"\n{LEAST}"));
    }
    message(&format!("name = \"{}\"\n{LEAST}", "a".repeat(129)));
    let error = parse(Path::new("my run.toml"), LEAST.as_bytes(), &[]).unwrap_err().to_string();
    assert_eq!(
        error,
        "error[config]: the file name `my run` cannot name the run\n  at my run.toml\n\n\
         hint: add `name = \"my-run\"` above the first section"
    );
}

#[test]
fn escapes_in_names_never_reach_the_terminal() {
    let text = message(&format!("\"\\u001b[2J\" = \"\\u001b\"\n{LEAST}"));
    assert!(!text.contains('\u{1b}'), "{text}");
    let text = message(&format!("[eval]\nprompts = \"\\u001b[2J\"\n{LEAST}"));
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_accepted() {
    let text = format!("\u{feff}seed = 3\n{LEAST}").replace('\n', "\r\n");
    assert_eq!(config(&text).seed, 3);
    says(
        message(&format!("\u{feff}sed = 3\r\n{LEAST}")),
        snapbox::str![[r#"
error[config]: unknown key `sed` at the top level
  at run.toml:1:1

hint: did you mean `seed`?
"#]],
    );
}
