//! Throughput of both crypto providers, alone and inside the endpoint: rounds interleaved, medians, ratios in one run.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crypto_fast::Fast;
use smb_proto::crypto::{CipherAlgorithm, Portable, Provider, SigningAlgorithm};

use crate::meter::Part;
use crate::work::{Ask, Asker};
use crate::world::{Protection, World};

/// Rounds of which the median counts.
const ROUNDS: usize = 11;
/// How long one round of one provider takes, about.
const ROUND: Duration = Duration::from_millis(30);
const SIZES: [usize; 5] = [128, 1024, 4096, 65_536, 1 << 20];
const SIGNINGS: [SigningAlgorithm; 3] =
    [SigningAlgorithm::AesGmac, SigningAlgorithm::AesCmac, SigningAlgorithm::HmacSha256];
const CIPHERS: [CipherAlgorithm; 4] = [
    CipherAlgorithm::Aes128Gcm,
    CipherAlgorithm::Aes256Gcm,
    CipherAlgorithm::Aes128Ccm,
    CipherAlgorithm::Aes256Ccm,
];

/// Runs everything and prints a table.
pub(crate) fn run() {
    println!("| what | bytes | portable MB/s | fast MB/s | ratio |\n|---|---|---|---|---|");
    let providers: [Arc<dyn Provider>; 2] = [Arc::new(Portable), Arc::new(Fast)];
    for size in SIZES {
        for algorithm in SIGNINGS {
            let [portable, fast] = providers.each_ref().map(|provider| {
                let (signer, data) = (provider.signer(algorithm, &[7; 16]), vec![1; size]);
                move || {
                    let begun = Instant::now();
                    black_box(signer.sign(&[1; 12], &[black_box(&data)]));
                    begun.elapsed()
                }
            });
            row(&format!("{algorithm:?} sign"), size, portable, fast);
        }
        for algorithm in CIPHERS {
            let [portable, fast] = providers.each_ref().map(|provider| {
                let cipher = provider.cipher(algorithm, &vec![7; algorithm.key_len()]).expect("a good key");
                let mut data = vec![1; size];
                move || {
                    let begun = Instant::now();
                    black_box(cipher.seal(&[1; 16], &[2; 32], black_box(&mut data)));
                    begun.elapsed()
                }
            });
            row(&format!("{algorithm:?} seal"), size, portable, fast);
        }
    }
    let signed = Protection::Signed(SigningAlgorithm::AesGmac);
    let sealed = Protection::Sealed(CipherAlgorithm::Aes128Gcm);
    for (name, protection) in [("GMAC", signed), ("GCM", sealed)] {
        for size in [4096, 1 << 20_u32] {
            for (what, part, ask) in [
                ("READ sent", Part::Send, Ask::Read(size)),
                ("WRITE received", Part::Receive, Ask::Write(size)),
            ] {
                let [portable, fast] = providers.each_ref().map(|provider| {
                    let mut world = World::new(protection, Arc::clone(provider));
                    let mut asker = Asker::new(&mut world);
                    world.meter.elapsed = Some(Duration::ZERO);
                    move || {
                        world.meter.elapsed = Some(Duration::ZERO);
                        asker.ask(&mut world, ask, part);
                        world.meter.elapsed.unwrap_or_default()
                    }
                });
                row(&format!("endpoint: {what}, {name}"), size as usize, portable, fast);
            }
        }
    }
}

/// One line of the table. What is passed in does the work once and says how long it took.
fn row(name: &str, size: usize, mut portable: impl FnMut() -> Duration, mut fast: impl FnMut() -> Duration) {
    let (mut slow, mut quick) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        slow.push(round(&mut portable));
        quick.push(round(&mut fast));
    }
    let rate = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        size as f64 / times[times.len() / 2] / 1e6
    };
    let (slow, quick) = (rate(slow), rate(quick));
    println!("| {name} | {size} | {slow:.0} | {quick:.0} | {:.2} |", quick / slow);
}

/// Seconds that one piece of work takes, in the mean of a round.
fn round(work: &mut impl FnMut() -> Duration) -> f64 {
    let (begun, mut spent, mut count) = (Instant::now(), Duration::ZERO, 0_u32);
    while count == 0 || begun.elapsed() < ROUND {
        spent += work();
        count += 1;
    }
    spent.as_secs_f64() / f64::from(count)
}
