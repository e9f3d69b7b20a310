//! A dstack task with a node for each worker.

use super::{Engine, EngineRequest, cluster_name, shell, yaml};

pub(super) const ENTRY: Engine =
    Engine { name: "dstack", file: "sweep.dstack.yml", needs_image: true, write };

fn write(request: &EngineRequest) -> String {
    let EngineRequest { points, workers, memory_gib, .. } = request;
    let (name, folder) = (cluster_name(request.name), shell(request.folder));
    let image = yaml(request.image.unwrap_or_default());
    format!(
        "# {points} points of the sweep on {workers} workers:
#
#   dstack apply -f {folder}/sweep.dstack.yml
#
# The volume holds the folder that the paths of the sweep are relative to. A task that is
# interrupted is submitted again, and goes on.
type: task
name: {name}
image: {image}
nodes: {workers}
working_dir: /data
commands:
  - |
    exec firebrand sweep run {folder} --workers {workers}
volumes:
  - firebrand:/data
resources:
  cpu: 4..
  memory: {memory_gib}GB..
  # gpu: 24GB
spot_policy: auto
retry:
  on_events: [no-capacity, interruption]
  duration: 1d
stop_duration: 2m
"
    )
}
