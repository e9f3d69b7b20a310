//! A SkyPilot managed job for each worker of a pool: spot machines that are taken away are
//! replaced, and the same command goes on.

use super::{Engine, EngineRequest, cluster_name, shell, yaml};

pub(super) const ENTRY: Engine =
    Engine { name: "skypilot", file: "skypilot.yml", needs_image: false, write };

fn write(request: &EngineRequest) -> String {
    let EngineRequest { points, workers, memory_gib, .. } = request;
    let (name, folder) = (cluster_name(request.name), shell(request.folder));
    let image = match request.image {
        Some(image) => format!("  image_id: {}\n", yaml(&format!("docker:{image}"))),
        None => String::new(),
    };
    format!(
        "# {points} points of the sweep on {workers} workers:
#
#   sky jobs pool apply -p {name} POOL.yml
#   sky jobs launch -p {name} --num-jobs {workers} {folder}/skypilot.yml
#
# or without a pool, a managed job for each worker:
#
#   for worker in $(seq 0 {last}); do
#     sky jobs launch -y -d --env FIREBRAND_SWEEP_INDEX=$worker {folder}/skypilot.yml
#   done
#
# The bucket holds the folder that the paths of the sweep are relative to. Runs, checkpoints and
# results are written there, so that a machine that takes the place of another goes on.
name: {name}
resources:
  cpus: 4+
  memory: {memory_gib}+
  # accelerators: L4:1
{image}  use_spot: true
  job_recovery:
    strategy: EAGER_NEXT_REGION
    max_restarts_on_errors: 0
    # 130 and 143: stopped and saved; the same command goes on.
    recover_on_exit_codes: [130, 143]
file_mounts:
  /data:
    name: firebrand-{name}
    mode: MOUNT_CACHED
envs:
  FIREBRAND_SWEEP_INDEX: \"\"
run: |
  set -eu
  cd /data
  exec firebrand sweep run {folder} --workers {workers}
",
        last = workers - 1,
    )
}
