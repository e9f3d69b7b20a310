//! A Kubernetes Indexed Job: every worker is a pod with a number; Kueue starts it when its turn
//! comes.

use super::{Engine, EngineRequest, cluster_name, shell, yaml};

pub(super) const ENTRY: Engine =
    Engine { name: "kubernetes", file: "kubernetes.yml", needs_image: true, write };

const TEMPLATE: &str = include_str!("templates/kubernetes.yml");

fn write(request: &EngineRequest) -> String {
    let values = [
        ("{points}", request.points.to_string()),
        ("{workers}", request.workers.to_string()),
        ("{memory_gib}", request.memory_gib.to_string()),
        ("{name}", cluster_name(request.name)),
        ("{image}", yaml(request.image.unwrap_or_default())),
        ("{folder}", shell(request.folder)),
    ];
    values.iter().fold(TEMPLATE.to_owned(), |text, (name, value)| text.replace(name, value))
}
