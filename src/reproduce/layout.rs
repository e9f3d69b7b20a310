//! A folder in which the inputs of a run lie under the names that they have in its lineage.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::recipe::{Input, Recipe};
use crate::config::place_free;
use crate::error::{Context, Error, Result};
use crate::files::{
    DATA_LOCK, Digest, folder_of, has_file, hash_file, link_or_copy, name_anywhere, read_bytes,
    write_atomic,
};
use crate::settings::{self, KEYS};

/// The configuration of the run that is made again.
pub const CONFIG: &str = "reproduce.toml";
/// Its run directory, within the folder.
pub const RUN: &str = "run";
/// How many folders above an artifact a relative name is tried from.
const ABOVE_MAX: usize = 8;

/// The largest lock that is read.
const LOCK_BYTES_MAX: u64 = 256 << 20;

/// Where inputs may lie besides where they lay.
#[derive(Debug, Clone, Default)]
pub struct Sources<'a> {
    /// The base model.
    pub base: Option<&'a Path>,
    /// Data files, and folders of them.
    pub data: &'a [PathBuf],
    /// Which commits and files of hubs the names stand for.
    pub lock: Option<&'a Path>,
}

/// Fills the folder: links to the inputs, each with the digest that the lineage has, and the
/// configuration.
///
/// # Errors
/// When an input cannot be found, or only with other bytes.
pub fn lay(recipe: &Recipe, sources: &Sources, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).context_at("cannot make the folder", folder)?;
    let mut settings = settings_of(recipe);
    lay_base(recipe, sources, folder)?;
    lay_base_adapters(recipe, sources, folder)?;
    let beside = [(recipe.start.as_ref(), "start-adapter"), (recipe.teacher.as_ref(), "teacher")];
    beside
        .iter()
        .try_for_each(|(model, role)| lay_beside(recipe, *model, role, sources, folder))?;
    for set in recipe.of_role("dataset").filter(|set| set.uri.is_none()) {
        let found = find_file(recipe, set, sources.data).ok_or_else(|| missing(set, "--data"))?;
        lay_data(set, &found, folder)?;
    }
    if let Some(template) = settings.get("data.chat_template").cloned() {
        lay_template(recipe, &template, sources, folder)?;
    }
    keep_absolute(recipe, &mut settings);
    lay_lock(recipe, sources, folder)?;
    let mut overrides: Vec<(String, String)> = settings.into_iter().collect();
    overrides.sort_by_key(|(key, _)| in_order(key));
    let given = [("output.dir", RUN), ("output.sign", "false"), ("checkpoint.reuse", "never")];
    overrides.extend(given.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let overrides: Vec<String> =
        overrides.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let path = folder.join(CONFIG);
    let loaded = settings::parse(&path, b"", &overrides).map_err(|error| {
        error.because("the settings of its lineage are not those of this version of the program")
    })?;
    write_atomic(&path, loaded.canonical.as_bytes())
}

/// The settings of the run. A stranger wrote them: only those that shape an artifact are taken, and
/// no path of this machine.
fn settings_of(recipe: &Recipe) -> BTreeMap<String, String> {
    let shaping = recipe.settings.iter().filter(|(key, _)| KEYS.effect(key).shapes_artifact());
    let placed = |(key, value): (&String, &String)| (key.clone(), place_free(&KEYS, key, value));
    let mut settings: BTreeMap<String, String> = shaping.map(placed).collect();
    // What the model was evaluated with is not part of its lineage, and decides no weight.
    settings.remove("eval.suite");
    settings
}

/// Where a file of a name in the lineage goes: within the folder, whatever the name.
fn within(folder: &Path, name: &str) -> Result<PathBuf> {
    let name = name_anywhere(name);
    let path = Path::new(&name);
    let plain = |part: Component| matches!(part, Component::Normal(_));
    match path.components().all(plain) && path.components().next().is_some() {
        true => Ok(folder.join(path)),
        false => Err(Error::lineage(format!("`{name}` of the lineage cannot name a file"))),
    }
}

/// Entries of arrays in their order: the tenth comes after the second.
fn in_order(key: &str) -> Vec<(u64, String)> {
    key.split('.').map(|part| (part.parse().unwrap_or(0), part.to_owned())).collect()
}

/// Data that was named by its place goes by the same name here, if it still lies there.
fn keep_absolute(recipe: &Recipe, settings: &mut BTreeMap<String, String>) {
    for (key, value) in settings.iter_mut() {
        let Some(asked) = recipe.asked.get(key).filter(|asked| *asked != value) else { continue };
        let placed = Path::new(asked).is_absolute() && key.starts_with("data.");
        let is_there = |input: &Input| {
            let name = input.asked.as_deref().unwrap_or_default();
            let inside = name == asked || Path::new(name).starts_with(asked);
            inside && is_it(Path::new(name), input)
        };
        let mut inputs = recipe
            .dependencies
            .iter()
            .filter(|it| it.asked.as_ref().is_some_and(|name| Path::new(name).starts_with(asked)));
        let mut any = false;
        let all = inputs.all(|input| {
            any = true;
            is_there(input)
        });
        if placed && any && all {
            asked.clone_into(value);
        }
    }
}

fn is_it(path: &Path, input: &Input) -> bool {
    has_bytes(path, input.sha256)
}

fn has_bytes(path: &Path, sha256: Digest) -> bool {
    has_file(path).unwrap_or(false) && hash_file(path, "").is_ok_and(|found| found.sha256 == sha256)
}

/// Places that a name may mean: from here, and from folders above the artifact.
fn places(recipe: &Recipe, name: &str) -> Vec<PathBuf> {
    let own = recipe.directory.canonicalize().unwrap_or_default();
    let above = own.ancestors().skip(1).take(ABOVE_MAX).map(|root| root.join(name));
    std::iter::once(PathBuf::from(name)).chain(above).collect()
}

/// The file with the right bytes: under its names, or among what the user gave.
fn find_file(recipe: &Recipe, input: &Input, given: &[PathBuf]) -> Option<PathBuf> {
    let last = Path::new(&input.name).file_name()?;
    let given =
        given.iter().flat_map(|path| [path.clone(), path.join(&input.name), path.join(last)]);
    let names = input.asked.iter().chain([&input.name]);
    let named = names.flat_map(|name| places(recipe, name));
    given.chain(named).find(|path| is_it(path, input))
}

fn missing(input: &Input, option: &str) -> Error {
    let what = format!("a file of the lineage cannot be found: `{}`", input.name);
    Error::lineage(what)
        .because(format!("nothing with the SHA-256 {} lies where it lay", input.sha256))
        .hint(format!("name it, or the folder that it lies in: `{option} PATH`"))
}

/// Puts a data file where the lineage has it, with what says how its folder is to be read.
fn lay_data(set: &Input, found: &Path, folder: &Path) -> Result<()> {
    let place = within(folder, &set.name)?;
    link_file(found, &place)?;
    let about = folder_of(found).join("README.md");
    let inside = Path::new(&set.name).parent().is_some_and(|it| !it.as_os_str().is_empty());
    if inside && has_file(&about)? {
        link_file(&about, &folder_of(&place).join("README.md"))?;
    }
    Ok(())
}

fn lay_template(recipe: &Recipe, name: &str, sources: &Sources, folder: &Path) -> Result<()> {
    let last = Path::new(name).file_name();
    let is_own = |it: &&Input| Path::new(&it.name).file_name() == last;
    let all: Vec<&Input> = recipe.of_role("chat-template").collect();
    let template = all.iter().copied().find(is_own).or(all.first().copied());
    let Some(template) = template else { return Ok(()) };
    let found = find_file(recipe, template, sources.data);
    link_file(&found.ok_or_else(|| missing(template, "--data"))?, &within(folder, name)?)
}

fn lay_base(recipe: &Recipe, sources: &Sources, folder: &Path) -> Result<()> {
    let (id, revision) = &recipe.base;
    if revision.is_some() {
        return Ok(()); // from its hub, by the lock
    }
    if let Some(file) = recipe.of_role("base-gguf").next() {
        let given: Vec<PathBuf> = sources.base.map(Path::to_path_buf).into_iter().collect();
        let found = find_file(recipe, file, &given).ok_or_else(|| missing(file, "--base"))?;
        return link_file(&found, &within(folder, id)?);
    }
    let given: Vec<PathBuf> = sources.base.map(Path::to_path_buf).into_iter().collect();
    let named = (id.as_str(), recipe.base_asked.as_ref());
    let what = ("base model", "config.json", "--base");
    lay_model(recipe, (what, &files_of(recipe, "base-model")), named, &given, folder)
}

/// The adapters that are merged into the base: folders, or those of a hub by the lock.
fn lay_base_adapters(recipe: &Recipe, sources: &Sources, folder: &Path) -> Result<()> {
    let mut seen: BTreeMap<&str, &BTreeMap<String, Digest>> = BTreeMap::new();
    for adapter in recipe.base_adapters.iter().filter(|it| it.revision.is_none()) {
        let id = adapter.id.as_str();
        if seen.insert(id, &adapter.files).is_some_and(|files| *files != adapter.files) {
            let what = format!("two adapters of the lineage are called `{id}`");
            return Err(Error::lineage(what)
                .because("both would lie in one folder")
                .hint("lay them in folders of other names, and train with these"));
        }
        let files: Vec<(&str, Digest)> =
            adapter.files.iter().map(|(name, sha256)| (name.as_str(), *sha256)).collect();
        let named = (id, adapter.asked.as_ref());
        let what = ("adapter below it", "adapter_config.json", "--data");
        lay_model(recipe, (what, &files), named, sources.data, folder)?;
    }
    Ok(())
}

/// The adapter that the run starts from, or the model that it learns from, if it does: a folder, or
/// one of a hub by the lock.
fn lay_beside(
    recipe: &Recipe,
    model: Option<&(String, Option<String>)>,
    role: &str,
    sources: &Sources,
    folder: &Path,
) -> Result<()> {
    let Some((id, asked)) = model else { return Ok(()) };
    if recipe.of_role(role).any(|file| file.uri.is_some()) {
        return Ok(());
    }
    let what = match role {
        "teacher" => ("teacher", "config.json", "--data"),
        _ => ("adapter that it starts from", "adapter_config.json", "--data"),
    };
    let files = files_of(recipe, role);
    lay_model(recipe, (what, &files), (id.as_str(), asked.as_ref()), sources.data, folder)
}

/// Names and digests of the files of a role.
fn files_of<'a>(recipe: &'a Recipe, role: &'a str) -> Vec<(&'a str, Digest)> {
    recipe.of_role(role).map(|file| (file.name.as_str(), file.sha256)).collect()
}

/// A model whose files have the digests of the lineage.
fn lay_model(
    recipe: &Recipe,
    ((what, settings, option), files): ((&str, &str, &str), &[(&str, Digest)]),
    (id, asked): (&str, Option<&String>),
    given: &[PathBuf],
    folder: &Path,
) -> Result<()> {
    let names = asked.map(String::as_str).into_iter().chain([id]);
    let named = names.flat_map(|name| places(recipe, name));
    let places: Vec<PathBuf> = given.iter().cloned().chain(named).collect();
    let both = places.iter().flat_map(|path| [path.clone(), path.join("artifact")]);
    let mut other = None;
    for place in both.filter(|place| place.join(settings).is_file()) {
        let differs = |file: &&(&str, Digest)| !has_bytes(&place.join(file.0), file.1);
        match files.iter().find(differs) {
            None => return link_folder(&place, &within(folder, id)?),
            Some(file) => other = other.or(Some((place, *file))),
        }
    }
    let error = Error::lineage(format!("the {what} `{id}` cannot be found"));
    let error = match other {
        Some((place, (name, sha256))) => {
            let place = place.display();
            error.because(format!("`{name}` of `{place}` is not {sha256}"))
        }
        None => error.because("nothing with the files of its lineage lies where it lay"),
    };
    Err(error.hint(format!("name its folder: `{option} DIR`")))
}

/// What the names of hubs stand for: the lock of the run, which lies beside its artifact.
fn lay_lock(recipe: &Recipe, sources: &Sources, folder: &Path) -> Result<()> {
    let of_hub = recipe.base.1.is_some() || recipe.dependencies.iter().any(|it| it.uri.is_some());
    if !of_hub {
        return Ok(());
    }
    let beside = folder_of(&recipe.directory).join(DATA_LOCK);
    let lock = sources.lock.map(Path::to_path_buf).unwrap_or(beside);
    if !has_file(&lock)? {
        return Err(Error::lock("what the names of the hub stood for is not known")
            .at(&lock)
            .because("base or data came from a hub, and there is no lock")
            .hint("name the lock of the run or of its configuration: `--lock FILE`"));
    }
    let text = read_bytes(&lock, LOCK_BYTES_MAX)?;
    write_atomic(&folder.join(Path::new(CONFIG).with_extension("lock")), &text)
}

fn link_file(from: &Path, to: &Path) -> Result<()> {
    make_way(to)?;
    let from = from.canonicalize().context_at("cannot find the file", from)?;
    if to.exists() { Ok(()) } else { link_or_copy(&from, to) }
}

/// A folder of the same files.
fn link_folder(from: &Path, to: &Path) -> Result<()> {
    let entries = fs::read_dir(from).context_at("cannot list the folder", from)?;
    for entry in entries {
        let path = entry.context_at("cannot list the folder", from)?.path();
        let Some(name) = path.file_name() else { continue };
        match path.is_dir() {
            true => link_folder(&path, &to.join(name))?,
            false => link_file(&path, &to.join(name))?,
        }
    }
    Ok(())
}

fn make_way(to: &Path) -> Result<()> {
    let folder = folder_of(to);
    fs::create_dir_all(folder).context_at("cannot make the folder", folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    /// A stranger may have written any of them.
    #[test]
    fn no_name_of_a_lineage_leads_out_of_the_folder() {
        let folder = Path::new("work");
        for (name, place) in [
            ("set/a.jsonl", "work/set/a.jsonl"),
            ("../../a.jsonl", "work/a.jsonl"),
            ("a/../../../b", "work/b"),
            ("/etc/passwd", "work/passwd"),
            ("~/.ssh/key", "work/key"),
        ] {
            assert_eq!(within(folder, name).unwrap(), Path::new(place), "{name}");
        }
        let refused = ["", "/", "..", "."].map(|name| within(folder, name).unwrap_err());
        says(
            refused.map(|error| error.to_string()).concat(),
            snapbox::str![
                "error[lineage]: `` of the lineage cannot name a fileerror[lineage]: `/` of the lineage cannot name a fileerror[lineage]: `..` of the lineage cannot name a fileerror[lineage]: `.` of the lineage cannot name a file"
            ],
        );
    }

    #[test]
    fn entries_keep_their_order() {
        let mut keys = ["data.train.10.path", "data.train.2.path", "data.train.2.format"];
        keys.sort_by_key(|key| in_order(key));
        assert_eq!(keys, ["data.train.2.format", "data.train.2.path", "data.train.10.path"]);
    }
}
