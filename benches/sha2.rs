//! The least that signing or verifying files can cost: every byte through `sha2`, a file a thread.
//! `benches/peers/signing.py` runs it beside the program.

use std::fs::File;
use std::io::Read;
use std::sync::Mutex;

use sha2::{Digest, Sha256};

fn main() {
    let files: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with("--")).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = Mutex::new(files.iter());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut buffer = vec![0; 1 << 20];
                loop {
                    let Some(path) = next.lock().unwrap().next() else { break };
                    let (mut file, mut hash) = (File::open(path).unwrap(), Sha256::new());
                    loop {
                        let count = file.read(&mut buffer).unwrap();
                        if count == 0 {
                            break;
                        }
                        hash.update(&buffer[..count]);
                    }
                    std::hint::black_box(hash.finalize());
                }
            });
        }
    });
}
