//! What leaves a GPU leaves the estimate of it.

use super::on_gpu::PAGES;
use super::*;
use crate::engine::STATE_AT_ONCE;
use crate::model::fixture::small_llama;

#[test]
fn state_off_a_gpu_is_no_memory_of_it_but_for_what_an_update_brings_there() {
    const STATE: u64 = 100 << 20;
    const LARGEST: u64 = 40 << 20;
    let trained = TrainedParameters {
        count: 1000,
        state_bytes: STATE,
        averages: false,
        largest: 500,
        largest_state: LARGEST,
    };
    let device = Workload::on(true, Arithmetic::F32, Kernels::Fast);
    let work = Workload { trained, rows: 1, length: 8, chunk: 8, saves: true, ..device };
    let of = |offload, trained| {
        let work = Workload { offload, trained, ..work };
        estimate(&small_llama(), work, &AdapterMemory::default())
    };
    let here = of(OptimizerOffload::None, trained);
    let [host, disk] =
        [OptimizerOffload::Host, OptimizerOffload::Disk].map(|place| of(place, trained));
    // A step is small beside an update, which has gradients and new values as well.
    let update = |state: u64| here.weights + PAGES + 2 * 1000 * F32 + state;
    assert_eq!(here.optimizer, STATE);
    for moved in [&host, &disk] {
        assert_eq!(moved.on_device(), update(LARGEST));
        assert!(moved.at_least() < here.at_least() - STATE / 2);
        // A tensor of it is read while it is saved.
        assert_eq!(here.checkpoint - moved.checkpoint, STATE - 500 * F32);
    }
    assert_eq!([here.offloaded, host.offloaded, disk.offloaded], [0, STATE, 0]);
    assert_eq!(host.total() - disk.total(), STATE);
    // Small parameters are moved together.
    let small = TrainedParameters { largest_state: 1 << 20, ..trained };
    let small = of(OptimizerOffload::Host, small);
    assert_eq!(small.on_device(), update(STATE_AT_ONCE));
}

#[test]
fn inputs_of_layers_off_a_gpu_are_no_memory_of_it_but_for_two() {
    let device = Workload::on(true, Arithmetic::F32, Kernels::Fast);
    let recompute = Recompute::Layers;
    let work = Workload { rows: 3, length: 8, chunk: 8, adapted: true, recompute, ..device };
    let mut description = small_llama();
    let layer = description.layers[0].clone();
    description.layers = vec![layer; 12];
    let of = |activation_offload| {
        let work = Workload { activation_offload, ..work };
        estimate(&description, work, &AdapterMemory::default())
    };
    let here = of(ActivationOffload::None);
    let [host, disk] = [ActivationOffload::Host, ActivationOffload::Disk].map(of);
    let input = (3 * 8 * description.hidden) as u64 * F32;
    for moved in [&host, &disk] {
        assert_eq!(here.on_device() - moved.on_device(), 10 * input);
    }
    assert_eq!([here.offloaded, host.offloaded, disk.offloaded], [0, 12 * input, 0]);
    // Where nothing is computed again there is nothing to move.
    let work = Workload { recompute: Recompute::None, ..work };
    let kept = |activation_offload| {
        let work = Workload { activation_offload, ..work };
        estimate(&description, work, &AdapterMemory::default())
    };
    assert_eq!(kept(ActivationOffload::Host), kept(ActivationOffload::None));
}
