//! Many worlds, on all cores, until they are through or one has failed.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::tally::Tally;
use crate::world::{Ran, run};

/// What many worlds came to.
#[derive(Debug, Default)]
pub struct Many {
    /// All that was counted.
    pub tally: Tally,
    /// Worlds that ran.
    pub ran: u64,
    /// The broken ones, lowest seed first.
    pub broken: Vec<Ran>,
}

/// Runs `count` worlds from seed `from`; stops soon after `most` of them broke a promise.
///
/// `prepare` is called once on each thread before it begins.
pub fn many(from: u64, count: u64, most: usize, prepare: impl Fn() + Sync) -> Many {
    let next = AtomicU64::new(from);
    let stop = AtomicBool::new(false);
    let all = Mutex::new(Many::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                prepare();
                let mut mine = Many::default();
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count {
                        break;
                    }
                    let ran = run(seed, false);
                    mine.ran += 1;
                    mine.tally.add(&ran.tally);
                    if ran.breach.is_some() {
                        mine.broken.push(ran);
                        if mine.broken.len() >= most {
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                }
                if let Ok(mut all) = all.lock() {
                    all.tally.add(&mine.tally);
                    all.ran += mine.ran;
                    all.broken.append(&mut mine.broken);
                }
            });
        }
    });
    let mut all = all.into_inner().unwrap_or_default();
    all.broken.sort_by_key(|ran| ran.seed);
    all
}
