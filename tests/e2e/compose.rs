//! The Compose files of these tests.

use cutover_tests::fleet::PORT;

/// A web service of this image, with more lines under `x-cutover` and under the service.
pub(crate) fn web(image: &str, x_cutover: &str, service: &str) -> String {
    format!(
        "name: shop\nservices:\n  web:\n    image: {image}\n    restart: unless-stopped\n    stop_grace_period: 2s\n\
         \x20   ports:\n      - \"{PORT}:8080\"\n    deploy:\n      replicas: 1\n{service}\
         \x20   x-cutover:\n      ready: {{http: /healthz, every: 100ms, timeout: 1s, successes: 2, failures: 3, within: 15s}}\n{}",
        indented(x_cutover)
    )
}

/// The times of the swaps that `make test` makes: short, and long enough for 5 s requests.
pub(crate) const SHORT: &str = "drain: 6s\nobserve: 2s\n";

fn indented(lines: &str) -> String {
    lines
        .lines()
        .map(|line| format!("      {line}\n"))
        .collect()
}
