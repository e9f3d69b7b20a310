//! Which adapter is meant by a name, and why: decided from what was found, without touching it.

use super::adapter::{Adapter, AdapterKind};
use crate::config::{DeviceChoice, GraphicsApi};
use crate::error::Error;

/// What the interfaces of this system have answered, best interface first.
pub type AdaptersByApi = Vec<(GraphicsApi, Result<Vec<Adapter>, String>)>;

/// Said where nothing is wrong, there just is no card.
const NO_CARD: &str = "no GPU with a usable driver was found";
const NO_SUPPORT: &str = "this build has no GPU support (feature `gpu`)";
const BUILD_IT: &str = "build it with the feature `gpu`, or set `device.name = \"cpu\"`";

/// Why there is no card, where nothing went wrong.
pub fn no_card(found: &AdaptersByApi) -> &'static str {
    if found.is_empty() { NO_SUPPORT } else { NO_CARD }
}

/// The adapters that a name may mean, best first.
///
/// # Errors
/// In one sentence, when there is none.
pub fn candidates(wanted: DeviceChoice, found: &AdaptersByApi) -> Result<Vec<Adapter>, Error> {
    let list = match wanted {
        DeviceChoice::Cpu => Vec::new(),
        DeviceChoice::Auto | DeviceChoice::Gpu(None) => cards_of_all(found),
        DeviceChoice::Gpu(Some(number)) => numbered(cards(found), number, "GPU")?,
        DeviceChoice::Software => software(found),
        DeviceChoice::Api(api, number) => of_interface(api, number, found)?,
    };
    if list.is_empty() {
        return Err(nothing(wanted, found));
    }
    Ok(list)
}

/// The real cards of the first interface that has any, the strongest kind first. Another interface
/// would show the same cards again.
pub fn cards(found: &[(GraphicsApi, Result<Vec<Adapter>, String>)]) -> Vec<Adapter> {
    for adapters in found.iter().filter_map(|(_, adapters)| adapters.as_ref().ok()) {
        let real = adapters.iter().filter(|adapter| adapter.kind != AdapterKind::Software);
        let mut real: Vec<Adapter> = real.cloned().collect();
        if !real.is_empty() {
            real.sort_by_key(|adapter| adapter.kind);
            return real;
        }
    }
    Vec::new()
}

/// The same cards, and after them those of the other interfaces: where a card computes wrong
/// through one of them, another may compute right.
fn cards_of_all(found: &AdaptersByApi) -> Vec<Adapter> {
    let mut all = Vec::new();
    for only in found.iter().map(std::slice::from_ref) {
        all.extend(cards(only));
    }
    all
}

/// Through OpenGL or DX12 where that is possible, as runs on such devices have always been: a run
/// is bound to its interface.
fn software(found: &AdaptersByApi) -> Vec<Adapter> {
    let all = found.iter().filter_map(|(_, adapters)| adapters.as_ref().ok()).flatten();
    let mut all: Vec<Adapter> =
        all.filter(|adapter| adapter.kind == AdapterKind::Software).cloned().collect();
    all.sort_by_key(|adapter| adapter.api == GraphicsApi::Vulkan.name());
    all
}

fn of_interface(
    api: GraphicsApi,
    number: Option<u16>,
    found: &AdaptersByApi,
) -> Result<Vec<Adapter>, Error> {
    let Some((_, adapters)) = found.iter().find(|(other, _)| *other == api) else {
        let what = format!("{} cannot be used on {}", title(api), std::env::consts::OS);
        let there: Vec<String> = found.iter().map(|(api, _)| format!("`{}`", api.name())).collect();
        return Err(match there.is_empty() {
            true => Error::device(what).because(NO_SUPPORT).hint(BUILD_IT),
            false => Error::device(what).hint(format!("available here: {}", there.join(" and "))),
        });
    };
    let Ok(adapters) = adapters else { return Ok(Vec::new()) };
    match number {
        Some(number) => {
            let one = numbered(adapters.clone(), number, &format!("{} adapter", title(api)))?;
            Ok(one)
        }
        None => {
            let mut all = adapters.clone();
            all.sort_by_key(|adapter| adapter.kind);
            Ok(all)
        }
    }
}

fn numbered(list: Vec<Adapter>, number: u16, what: &str) -> Result<Vec<Adapter>, Error> {
    if list.is_empty() {
        return Ok(list);
    }
    let count = list.len();
    let one = list.into_iter().nth(usize::from(number));
    one.map(|adapter| vec![adapter]).ok_or_else(|| {
        let (are, s) = if count == 1 { ("is", "") } else { ("are", "s") };
        Error::device(format!("no {what} with index {number}: there {are} {count} {what}{s}"))
            .hint("indices begin at 0; `firebrand devices` lists what there is")
    })
}

/// Why there is nothing of that name.
fn nothing(wanted: DeviceChoice, found: &AdaptersByApi) -> Error {
    let error = match wanted {
        _ if found.is_empty() => Error::device("no GPU can be used").hint(BUILD_IT),
        DeviceChoice::Software => Error::device("there is no software adapter")
            .hint("on Debian, `apt-get install libegl1 libgl1-mesa-dri` brings one"),
        DeviceChoice::Api(api, _) => Error::device(format!("{} has no adapter here", title(api)))
            .hint("install the driver of your GPU; `firebrand devices` lists what there is"),
        _ => Error::device("no GPU can be used")
            .hint("set `device.name = \"cpu\"`, or install the Vulkan driver of your GPU"),
    };
    let reasons = reasons(
        found,
        match wanted {
            DeviceChoice::Api(api, _) => Some(api),
            _ => None,
        },
    );
    if reasons.is_empty() {
        return error.because(no_card(found));
    }
    reasons.into_iter().fold(error, Error::because)
}

/// What went wrong with the interfaces, or with one of them.
pub fn reasons(found: &AdaptersByApi, only: Option<GraphicsApi>) -> Vec<String> {
    let of = found.iter().filter(|(api, _)| only.is_none_or(|only| only == *api));
    of.filter_map(|(api, adapters)| {
        let why = adapters.as_ref().err()?;
        Some(format!("{}: {why}", title(*api)))
    })
    .collect()
}

/// An interface, for people.
pub fn title(api: GraphicsApi) -> &'static str {
    match api {
        GraphicsApi::Vulkan => "Vulkan",
        GraphicsApi::Metal => "Metal",
        GraphicsApi::Dx12 => "DirectX 12",
        GraphicsApi::Gl => "OpenGL",
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::adapter;
    use super::*;
    use crate::snapshots::says;

    /// A laptop with two cards, which OpenGL shows again, and with software drivers.
    fn laptop() -> AdaptersByApi {
        vec![
            (
                GraphicsApi::Vulkan,
                Ok(vec![
                    adapter("vulkan", 0, AdapterKind::Integrated, 0),
                    adapter("vulkan", 1, AdapterKind::Software, 0),
                    adapter("vulkan", 2, AdapterKind::Discrete, 0),
                ]),
            ),
            (
                GraphicsApi::Gl,
                Ok(vec![
                    adapter("gl", 0, AdapterKind::Other, 0),
                    adapter("gl", 1, AdapterKind::Software, 0),
                ]),
            ),
        ]
    }

    fn names(name: &str, found: &AdaptersByApi) -> Result<Vec<String>, String> {
        let list = candidates(DeviceChoice::from_name(name).unwrap(), found);
        list.map(|list| list.iter().map(Adapter::device_name).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn names_mean_the_best_or_the_one_of_that_number() {
        let found = laptop();
        let first = |name| names(name, &found).unwrap()[0].clone();
        assert_eq!(names("auto", &found).unwrap(), ["vulkan:2", "vulkan:0", "gl:0"]);
        assert_eq!(names("gpu", &found).unwrap(), ["vulkan:2", "vulkan:0", "gl:0"]);
        assert_eq!(names("gpu:1", &found).unwrap(), ["vulkan:0"]);
        assert_eq!(names("vulkan:1", &found).unwrap(), ["vulkan:1"]);
        assert_eq!((first("vulkan"), first("gl")), ("vulkan:2".to_owned(), "gl:0".to_owned()));
        assert_eq!(first("software"), "gl:1", "not through Vulkan, if there is another way");
    }

    #[test]
    fn what_is_not_there_is_a_sentence() {
        let found = laptop();
        let why = names("gpu:2", &found).unwrap_err();
        says(
            &why,
            snapbox::str![[r#"
error[device]: no GPU with index 2: there are 2 GPUs

hint: indices begin at 0; `firebrand devices` lists what there is
"#]],
        );
        let why = names("vulkan:9", &found).unwrap_err();
        says(
            &why,
            snapbox::str![[r#"
error[device]: no Vulkan adapter with index 9: there are 3 Vulkan adapters

hint: indices begin at 0; `firebrand devices` lists what there is
"#]],
        );
        let why = names("metal", &found).unwrap_err();
        says(
            &why,
            snapbox::str![[r#"
error[device]: Metal cannot be used on [..]

hint: available here: `vulkan` and `gl`
"#]],
        );
        let empty = vec![(GraphicsApi::Vulkan, Ok(Vec::new()))];
        let mut messages = String::new();
        for name in ["auto", "gpu", "gpu:0", "vulkan", "vulkan:0", "software"] {
            let why = names(name, &empty).unwrap_err();
            messages += &format!("{name}: {why}\n");
        }
        says(
            messages,
            snapbox::str![[r#"
auto: error[device]: no GPU can be used
  because no GPU with a usable driver was found

hint: set `device.name = "cpu"`, or install the Vulkan driver of your GPU
gpu: error[device]: no GPU can be used
  because no GPU with a usable driver was found

hint: set `device.name = "cpu"`, or install the Vulkan driver of your GPU
gpu:0: error[device]: no GPU can be used
  because no GPU with a usable driver was found

hint: set `device.name = "cpu"`, or install the Vulkan driver of your GPU
vulkan: error[device]: Vulkan has no adapter here
  because no GPU with a usable driver was found

hint: install the driver of your GPU; `firebrand devices` lists what there is
vulkan:0: error[device]: Vulkan has no adapter here
  because no GPU with a usable driver was found

hint: install the driver of your GPU; `firebrand devices` lists what there is
software: error[device]: there is no software adapter
  because no GPU with a usable driver was found

hint: on Debian, `apt-get install libegl1 libgl1-mesa-dri` brings one

"#]],
        );
        let mut messages = String::new();
        for name in ["gl", "gpu", "software"] {
            let why = names(name, &AdaptersByApi::new()).unwrap_err();
            messages += &format!("{name}: {why}\n");
        }
        says(
            messages,
            snapbox::str![[r#"
gl: error[device]: OpenGL cannot be used on [..]
  because this build has no GPU support (feature `gpu`)

hint: build it with the feature `gpu`, or set `device.name = "cpu"`
gpu: error[device]: no GPU can be used
  because this build has no GPU support (feature `gpu`)

hint: build it with the feature `gpu`, or set `device.name = "cpu"`
software: error[device]: no GPU can be used
  because this build has no GPU support (feature `gpu`)

hint: build it with the feature `gpu`, or set `device.name = "cpu"`

"#]],
        );
    }

    #[test]
    fn a_software_rasteriser_is_no_gpu_and_a_crashed_driver_is_named() {
        let found: AdaptersByApi = vec![
            (GraphicsApi::Vulkan, Err("the driver crashed (signal 11)".to_owned())),
            (GraphicsApi::Gl, Ok(vec![adapter("gl", 0, AdapterKind::Software, 0)])),
        ];
        let mut messages = String::new();
        for name in ["auto", "gpu", "vulkan", "vulkan:0"] {
            let why = names(name, &found).unwrap_err();
            messages += &format!("{why}\n");
        }
        says(
            messages,
            snapbox::str![[r#"
error[device]: no GPU can be used
  because Vulkan: the driver crashed (signal 11)

hint: set `device.name = "cpu"`, or install the Vulkan driver of your GPU
error[device]: no GPU can be used
  because Vulkan: the driver crashed (signal 11)

hint: set `device.name = "cpu"`, or install the Vulkan driver of your GPU
error[device]: Vulkan has no adapter here
  because Vulkan: the driver crashed (signal 11)

hint: install the driver of your GPU; `firebrand devices` lists what there is
error[device]: Vulkan has no adapter here
  because Vulkan: the driver crashed (signal 11)

hint: install the driver of your GPU; `firebrand devices` lists what there is

"#]],
        );
        assert_eq!(names("software", &found).unwrap(), ["gl:0"]);
    }

    #[test]
    fn a_card_that_only_opengl_reaches_is_found() {
        let software = adapter("vulkan", 0, AdapterKind::Software, 0);
        let mut found = laptop();
        found[0].1 = Ok(vec![software]);
        assert_eq!(names("auto", &found).unwrap(), ["gl:0"]);
    }
}
