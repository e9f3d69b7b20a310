//! A suite and a policy to start from, of what a run says of itself: they pass or refuse for a
//! reason that its user knows.

use crate::artifact::past::Past;
use crate::document::quoted;
use crate::error::{Error, Result};

/// Names of the files, in one folder.
pub const SUITE_FILE: &str = "eval.toml";
/// See [`SUITE_FILE`].
pub const POLICY_FILE: &str = "gate.toml";

/// What to write, and to say.
#[derive(Debug)]
pub struct Start {
    /// What models are evaluated on.
    pub suite: String,
    /// What is demanded of them.
    pub policy: String,
    /// What it does not have from the run.
    pub notes: Vec<String>,
}

/// Keys of a data set of a run that say which records it has, and how they are read.
const OF_DATA: [&str; 5] = ["format", "revision", "subset", "split", "columns"];
/// Records up to this share of the longest are a part of their own.
const SHORT: usize = 4;

/// A start for the models of a run, `name` among people; they are evaluated on `data`, or else on
/// what the run was measured on.
///
/// # Errors
/// When the run says nothing of itself, or was measured on nothing that is apart from what it was
/// trained on.
pub fn start(past: &Past, name: &str, data: Option<&str>) -> Result<Start> {
    if past.resolved.is_empty() {
        return Err(Error::file("its lineage does not say how it was made")
            .hint("name the run that wrote it, or an artifact as Firebrand writes it"));
    }
    let setting = |key: &str| past.resolved.get(key);
    let mut notes = Vec::new();
    let set = match data {
        Some(path) => format!("path = {}\n", quoted(path)),
        None => validation(past, &mut notes)?,
    };
    let longest = setting("data.max_seq_len").and_then(|length| length.parse().ok());
    let longest: usize = longest.unwrap_or(1024);
    let short = (longest / SHORT).max(1);
    let suite = format!(
        "# What models are evaluated on, both sides of {POLICY_FILE}. `firebrand init --for eval` \
         has every key.\n\nname = {}\n\n[data]\n# Records that no model was trained on.\n{set}\
         max_seq_len = {longest}\n\n# Parts in which a model must not get worse either. A column \
         of the records, such as a language\n# or a customer, says more than their length.\n\
         [[slice]]\nby = \"length\"\nbands = [{short}]\n",
        quoted(name)
    );
    let mut policy = format!(
        "# What a new model must keep to before it takes the place of the one in use.\n\
         # `firebrand init --for gate` has every key. Whoever can change this file can ship any \
         model.\n\n[eval]\nsuite = {}\n\n[[metric]]\nname = \"loss\"\nmax_regression = 0.05 # at \
         most 5 % more than that of the model in use\nsignificant = true    # and only if the \
         95 % interval of the difference says so, too\n\n[[slice]]\nby = \"length\"\nmetric = \
         \"loss\"\nmax_regression = 0.10\nsignificant = true    # small parts vary by \
         chance\n\n# The whole checklist must hold, but for what is false here.\n[checks]\n",
        quoted(SUITE_FILE)
    );
    if past.is_committed {
        policy.push_str("# source_clean = false # this run was trained from a commit\n");
    } else {
        policy.push_str(
            "source_clean = false  # this run was not trained from a commit of a git repository\n",
        );
        notes.push(
            "the run was not trained from a commit without changes: the policy does not ask for \
             one"
            .to_owned(),
        );
    }
    Ok(Start { suite, policy, notes })
}

/// Keys of `[data]` for what a run was measured on.
fn validation(past: &Past, notes: &mut Vec<String>) -> Result<String> {
    let setting = |key: &str| past.resolved.get(key);
    let Some(path) = setting("data.validation.0.path") else {
        let error = match setting("data.val_size") {
            Some(_) => "what the run measured itself on lies in a file that it was trained on",
            None => "the run was measured on no data of its own",
        };
        return Err(Error::config(error)
            .because("models are compared on records that none of them was trained on")
            .hint("name such data with `--data`: a file, a folder, or owner/name on the hub"));
    };
    if let Some(second) = setting("data.validation.1.path") {
        notes.push(format!(
            "the run was measured on several data sets, of which a suite takes one: not `{second}`"
        ));
    }
    let mut keys = format!("path = {}\n", quoted(path));
    for key in OF_DATA {
        if let Some(value) = setting(&format!("data.validation.0.{key}")) {
            let value = if key == "columns" { value.clone() } else { quoted(value) };
            keys.push_str(&format!("{key} = {value}\n"));
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    fn past(settings: &[(&str, &str)], is_committed: bool) -> Past {
        let text = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Past { resolved: settings.iter().map(text).collect(), is_committed, ..Past::default() }
    }

    #[test]
    fn what_the_run_was_measured_on_is_what_models_are_judged_on() {
        let past = past(
            &[
                ("data.max_seq_len", "256"),
                ("data.validation.0.path", "chats.jsonl"),
                ("data.validation.0.format", "messages"),
                ("data.validation.0.columns", "{ messages = \"conversation\" }"),
                ("data.validation.1.path", "more.jsonl"),
            ],
            true,
        );
        let start = start(&past, "chats", None).unwrap();
        says(
            start.notes.join("\n"),
            snapbox::str![
                "the run was measured on several data sets, of which a suite takes one: not `more.jsonl`"
            ],
        );
        says(
            start.suite,
            snapbox::str![[r##"
# What models are evaluated on, both sides of gate.toml. `firebrand init --for eval` has every key.

name = "chats"

[data]
# Records that no model was trained on.
path = "chats.jsonl"
format = "messages"
columns = { messages = "conversation" }
max_seq_len = 256

# Parts in which a model must not get worse either. A column of the records, such as a language
# or a customer, says more than their length.
[[slice]]
by = "length"
bands = [64]

"##]],
        );
        says(
            start.policy,
            snapbox::str![[r##"
# What a new model must keep to before it takes the place of the one in use.
# `firebrand init --for gate` has every key. Whoever can change this file can ship any model.

[eval]
suite = "eval.toml"

[[metric]]
name = "loss"
max_regression = 0.05 # at most 5 % more than that of the model in use
significant = true    # and only if the 95 % interval of the difference says so, too

[[slice]]
by = "length"
metric = "loss"
max_regression = 0.10
significant = true    # small parts vary by chance

# The whole checklist must hold, but for what is false here.
[checks]
# source_clean = false # this run was trained from a commit

"##]],
        );
    }

    #[test]
    fn without_data_that_is_apart_it_says_what_to_name() {
        let of = |settings: &[(&str, &str)]| start(&past(settings, false), "x", None).unwrap_err();
        says(
            of(&[]).to_string(),
            snapbox::str![[r#"
error[file]: its lineage does not say how it was made

hint: name the run that wrote it, or an artifact as Firebrand writes it
"#]],
        );
        says(
            of(&[("data.val_size", "0.1")]).to_string(),
            snapbox::str![[r#"
error[config]: what the run measured itself on lies in a file that it was trained on
  because models are compared on records that none of them was trained on

hint: name such data with `--data`: a file, a folder, or owner/name on the hub
"#]],
        );
        says(
            of(&[("seed", "1")]).to_string(),
            snapbox::str![[r#"
error[config]: the run was measured on no data of its own
  because models are compared on records that none of them was trained on

hint: name such data with `--data`: a file, a folder, or owner/name on the hub
"#]],
        );
        let named = start(&past(&[("data.val_size", "0.1")], false), "x", Some("y.jsonl"));
        says(
            named.unwrap().notes.join("\n"),
            snapbox::str![
                "the run was not trained from a commit without changes: the policy does not ask for one"
            ],
        );
    }
}
