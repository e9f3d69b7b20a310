//! Configurations of other tools: what each of their settings is here, or why it is not.
//!
//! A tool is a file with its table of settings, and a line of [`TOOLS`].

mod axolotl;
mod draft;
mod groups;
mod llama_factory;
mod mlx;
mod recompute;
mod trackers;
mod trainer;
mod trl;
mod unsloth;
mod yaml;

use draft::{Action, Draft};
use yaml::{YamlNode, YamlValue};

use crate::error::{Error, Result, nearest};
use crate::settings;

/// A tool whose configurations are read.
pub struct ForeignTool {
    /// As people call it, in small letters.
    pub name: &'static str,
    /// Settings by which its files are known.
    known_by: &'static [&'static str],
    /// Settings that stand in sections of these names are read as those beside them are.
    sections: &'static [&'static str],
    /// What becomes of each setting.
    settings: &'static [&'static [(&'static str, Action)]],
    /// What is done when all were seen, with all of them.
    finish: fn(&YamlNode, &mut Draft),
}

/// All tools; a file is that of the first that knows it.
const TOOLS: [&ForeignTool; 5] =
    [&axolotl::TOOL, &llama_factory::TOOL, &trl::TOOL, &mlx::TOOL, &unsloth::TOOL];

/// Names of all tools.
pub const NAMES: [&str; 5] =
    [TOOLS[0].name, TOOLS[1].name, TOOLS[2].name, TOOLS[3].name, TOOLS[4].name];

/// A setting that was not taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftSetting {
    /// Its line in the file.
    pub line: usize,
    /// Its name and value.
    pub what: String,
    /// Why.
    pub why: String,
}

/// What was made of a file.
#[derive(Debug)]
pub struct Imported {
    /// The tool that it is of.
    pub tool: &'static str,
    /// The configuration, with comments that say what was left.
    pub toml: String,
    /// Settings that were taken over.
    pub taken: usize,
    /// Settings that were not.
    pub left: Vec<LeftSetting>,
    /// Names of settings that need none here: what they choose is done by itself.
    pub needless: Vec<String>,
    /// Why the configuration does not load yet, if it does not.
    pub problem: Option<String>,
}

/// Reads the settings of another tool; `name` is that of the file, `tool` that of the tool where it
/// is said.
///
/// # Errors
/// When it is not YAML, or of no tool that is known.
pub fn import(name: &str, text: &str, tool: Option<&str>) -> Result<Imported> {
    let root = yaml::read(name, text)?;
    let YamlValue::Map(entries) = &root.value else {
        return Err(Error::config("this is not a file of settings").at(name));
    };
    let known = |one: &&&ForeignTool| match tool {
        Some(tool) => one.name == tool,
        None => one.known_by.iter().any(|key| entries.iter().any(|(name, _)| name == key)),
    };
    let tool = TOOLS.iter().find(known).ok_or_else(|| {
        Error::config("this is not a training configuration of a tool that is known")
            .at(name)
            .because(format!("none of its keys names a model, as those of {} do", NAMES.join(", ")))
            .hint(format!("`--from` says which tool it is of: {}", NAMES.join(", ")))
    })?;
    let (mut draft, mut left, mut taken) = (Draft::default(), Vec::new(), 0);
    let mut needless = Vec::new();
    let in_sections = |(key, node): &'_ (String, YamlNode)| match &node.value {
        YamlValue::Map(inner) if tool.sections.contains(&key.as_str()) => inner.clone(),
        _ => vec![(key.clone(), node.clone())],
    };
    for (key, node) in &entries.iter().flat_map(in_sections).collect::<Vec<_>>() {
        let action =
            tool.settings.iter().flat_map(|part| part.iter()).find(|(name, _)| name == key);
        let done = match action {
            _ if node.value == YamlValue::Null => continue,
            Some((_, Action::Nothing)) => {
                needless.push(key.clone());
                continue;
            }
            Some((_, Action::Without(_))) if node.is_off() => continue,
            Some((_, Action::Without(why))) => Err((*why).to_owned()),
            Some((_, Action::Key(path))) => draft.take(path, node),
            Some((_, Action::Make(make))) => make(node, &mut draft),
            None if node.is_off() => continue,
            None => Err(unknown(tool, key)),
        };
        match done {
            Ok(()) => taken += 1,
            Err(why) => {
                let what = format!("{key}: {}", node.shown());
                left.push(LeftSetting { line: node.line, what, why });
            }
        }
    }
    (tool.finish)(&root, &mut draft);
    trainer::without_validation(&mut draft);
    if draft.value("train.max_steps").is_some() && draft.value("train.epochs").is_some() {
        draft.remove("train.epochs");
        draft.remark("The number of steps decides how long the run is, and not that of epochs.");
    }
    let toml = written(tool.name, name, &draft, (&left, &needless));
    let problem = settings::parse("imported.toml".as_ref(), toml.as_bytes(), &[]).err();
    let problem = problem.map(|error| error.to_string());
    Ok(Imported { tool: tool.name, toml, taken, left, needless, problem })
}

/// A setting that no table has.
fn unknown(tool: &ForeignTool, key: &str) -> String {
    let names = tool.settings.iter().flat_map(|part| part.iter()).map(|(name, _)| *name);
    match nearest(key, names) {
        Some(name) => format!("not a setting that is known here; did you mean `{name}`?"),
        None => format!("not a setting of {} that is known here", tool.name),
    }
}

fn written(
    tool: &str,
    name: &str,
    draft: &Draft,
    (left, needless): (&[LeftSetting], &[String]),
) -> String {
    // Comments have no control characters.
    let comment = |line: &str| {
        let line: String = line.chars().filter(|c| !c.is_control()).collect();
        format!("# {line}\n")
    };
    let head = format!("Made by `firebrand import` of {name}, a configuration of {tool}.");
    let mut text = comment(&head);
    draft.remarks.iter().for_each(|remark| text += &comment(remark));
    text += &format!("\n{}", draft.render().trim_start_matches('\n'));
    if !left.is_empty() {
        text += "\n# Not taken over:\n";
        for setting in left {
            let what: String = setting.what.chars().take(60).collect();
            text += &comment(&format!("line {}, {what}: {}", setting.line, setting.why));
        }
    }
    if !needless.is_empty() {
        text += "\n";
        text += &comment(&format!("What these choose is done by itself: {}", needless.join(", ")));
    }
    text
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
