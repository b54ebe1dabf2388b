//! Every model holds within its small bound, and catches each of its seeded faults.

use models::MODELS;
use models::harness::run::{Bound, silence_panics};

#[test]
fn every_model_holds() {
    silence_panics();
    for model in MODELS {
        let report = (model.explore)(Bound { deep: false, fault: None });
        for (case, property, trace) in &report.counterexamples {
            eprintln!("{}: {property} does not hold in `{case}`:\n{trace}", model.name);
        }
        assert!(report.counterexamples.is_empty(), "{} is broken", model.name);
        assert_eq!(report.never_seen(), Vec::<&str>::new(), "{} shows less than it should", model.name);
    }
}

#[test]
fn every_seeded_fault_is_caught() {
    silence_panics();
    for model in MODELS {
        assert!(!model.faults.is_empty(), "{} has no seeded fault", model.name);
        for fault in model.faults {
            let report = (model.explore)(Bound { deep: false, fault: Some(*fault) });
            assert!(!report.counterexamples.is_empty(), "{} does not catch {}", model.name, fault.name());
        }
    }
}
