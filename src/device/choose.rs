//! Which adapter is meant by a name, and why: decided from what was found, without touching it.

use super::adapter::{Adapter, AdapterKind};
use crate::config::{DeviceChoice, GraphicsApi};
use crate::error::Error;

/// What the interfaces of this system have answered, best interface first.
pub type AdaptersByApi = Vec<(GraphicsApi, Result<Vec<Adapter>, String>)>;

/// Said where nothing is wrong, there just is no card.
const NO_CARD: &str = "no GPU with a usable driver was found";

/// Why there is no card, where nothing went wrong.
pub fn no_card(found: &AdaptersByApi) -> &'static str {
    if found.is_empty() { "this build has no GPU support (feature `gpu`)" } else { NO_CARD }
}

/// The adapters that a name may mean, best first.
///
/// # Errors
/// In one sentence, when there is none.
pub fn candidates(wanted: DeviceChoice, found: &AdaptersByApi) -> Result<Vec<Adapter>, Error> {
    let list = match wanted {
        DeviceChoice::Cpu => Vec::new(),
        DeviceChoice::Auto | DeviceChoice::Gpu(None) => cards(found),
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
pub fn cards(found: &AdaptersByApi) -> Vec<Adapter> {
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

/// Through OpenGL or DX12 where that is possible: the software drivers of Vulkan crash on the
/// kernels that Burn makes for it.
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
        let hint = match there.is_empty() {
            true => "this build has no GPU support (feature `gpu`)".to_owned(),
            false => format!("here there is {}", there.join(" and ")),
        };
        return Err(Error::device(what).hint(hint));
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
        Error::device(format!(
            "there is no {what} of number {number}: there {are} {count} {what}{s}"
        ))
        .hint("numbers begin at 0; `firebrand devices` lists what there is")
    })
}

/// Why there is nothing of that name.
fn nothing(wanted: DeviceChoice, found: &AdaptersByApi) -> Error {
    let error = match wanted {
        DeviceChoice::Software => Error::device("there is no software adapter")
            .hint("on Debian, `apt-get install libegl1 libgl1-mesa-dri` brings one"),
        DeviceChoice::Api(api, _) => Error::device(format!("{} has no adapter here", title(api)))
            .hint("install the driver of your card; `firebrand devices` lists what there is"),
        _ => Error::device("no GPU can be used")
            .hint("set `device.name = \"cpu\"`, or install the Vulkan driver of your card"),
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
        assert_eq!(names("auto", &found).unwrap(), ["vulkan:2", "vulkan:0"]);
        assert_eq!(names("gpu", &found).unwrap(), ["vulkan:2", "vulkan:0"]);
        assert_eq!(names("gpu:1", &found).unwrap(), ["vulkan:0"]);
        assert_eq!(names("vulkan:1", &found).unwrap(), ["vulkan:1"]);
        assert_eq!((first("vulkan"), first("gl")), ("vulkan:2".to_owned(), "gl:0".to_owned()));
        assert_eq!(first("software"), "gl:1", "not through Vulkan, if there is another way");
    }

    #[test]
    fn what_is_not_there_is_a_sentence() {
        let found = laptop();
        let why = names("gpu:2", &found).unwrap_err();
        assert!(why.contains("no GPU of number 2: there are 2 GPUs"), "{why}");
        let why = names("vulkan:9", &found).unwrap_err();
        assert!(why.contains("no Vulkan adapter of number 9"), "{why}");
        let why = names("metal", &found).unwrap_err();
        assert!(why.contains("Metal cannot be used on"), "{why}");
        assert!(why.contains("`vulkan` and `gl`"), "{why}");
        let empty = vec![(GraphicsApi::Vulkan, Ok(Vec::new()))];
        for name in ["auto", "gpu", "gpu:0", "vulkan", "vulkan:0", "software"] {
            let why = names(name, &empty).unwrap_err();
            assert!(why.contains("because") && why.contains("hint"), "{name}: {why}");
        }
        for name in ["gl", "gpu", "software"] {
            assert!(
                names(name, &AdaptersByApi::new()).unwrap_err().contains("no GPU support"),
                "{name}"
            );
        }
    }

    #[test]
    fn a_software_rasteriser_is_no_gpu_and_a_crashed_driver_is_named() {
        let found: AdaptersByApi = vec![
            (GraphicsApi::Vulkan, Err("the driver crashed (signal 11)".to_owned())),
            (GraphicsApi::Gl, Ok(vec![adapter("gl", 0, AdapterKind::Software, 0)])),
        ];
        for name in ["auto", "gpu", "vulkan", "vulkan:0"] {
            let why = names(name, &found).unwrap_err();
            assert!(why.contains("because Vulkan: the driver crashed (signal 11)"), "{why}");
        }
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
