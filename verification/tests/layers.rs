//! Dependencies between the packages go one way (see CONTRIBUTING.md).

use std::collections::BTreeMap;
use std::process::Command;

/// Package and the packages of this workspace that it may depend on, for building and for its tests.
const ALLOWED: &[(&str, &[&str])] = &[
    ("smb-proto", &[]),
    ("smb-state", &["smb-proto"]),
    ("storage", &["smb-proto", "smb-state"]),
    ("models", &["smb-proto", "smb-state"]),
    ("runtime", &["smb-proto", "smb-state", "storage"]),
    ("runtime-tokio", &["smb-proto", "smb-state", "storage", "runtime"]),
    ("runtime-glommio", &["smb-proto", "smb-state", "storage", "runtime"]),
    ("crypto-fast", &["smb-proto"]),
    (
        "leasehold",
        &["smb-proto", "smb-state", "storage", "runtime", "runtime-tokio", "runtime-glommio", "crypto-fast"],
    ),
    ("examples", &["smb-proto", "smb-state", "storage"]),
    ("count", &["smb-proto", "smb-state", "storage", "crypto-fast"]),
    (
        "verification",
        &[
            "smb-proto",
            "smb-state",
            "storage",
            "runtime",
            "runtime-tokio",
            "runtime-glommio",
            "models",
            "leasehold",
            "crypto-fast",
            "count",
        ],
    ),
];

#[test]
fn dependencies_go_one_way() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut seen = 0;
    for package in packages {
        let name = package["name"].as_str().expect("a package has a name");
        let may = allowed.get(name).unwrap_or_else(|| panic!("{name} is not in the table of layers"));
        seen += 1;
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let other = dependency["name"].as_str().expect("a dependency has a name");
            if allowed.contains_key(other) {
                assert!(may.contains(&other), "{name} may not depend on {other}");
            }
        }
    }
    assert_eq!(seen, ALLOWED.len(), "the table of layers lists a package that is gone");
}
