//! What `/metrics` of the store serves is what `docs/metrics.md` says, and it moves when something happens.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{StoreCluster, eventually, repository};

const LIMIT: Duration = Duration::from_secs(60);

/// Families by name, with their kinds.
type Families = BTreeMap<String, String>;

/// The page that a member serves.
fn page(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let request = "GET /metrics HTTP/1.1\r\nHost: store\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("a head")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    Ok(body.to_owned())
}

/// Name and value of each series.
fn series(page: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.rsplit_once(' '))
}

/// The families of which there are series.
fn families(page: &str) -> Families {
    let kinds = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let kinds: BTreeMap<&str, &str> = kinds.filter_map(|line| line.split_once(' ')).collect();
    let family = |series: &str| {
        let name = series.split('{').next().unwrap_or(series);
        let of_histogram = ["_bucket", "_sum", "_count"].iter();
        let base = of_histogram
            .filter_map(|end| name.strip_suffix(end))
            .find(|base| kinds.get(base) == Some(&"histogram"));
        let name = base.unwrap_or(name);
        let typed = name.strip_suffix("_total").unwrap_or(name);
        let kind = kinds.get(name).or_else(|| kinds.get(typed));
        (name.to_owned(), (*kind.unwrap_or(&"untyped")).to_owned())
    };
    series(page).map(|(series, _)| family(series)).collect()
}

/// The rows of the page's tables.
fn documented() -> Result<Families> {
    let text = std::fs::read_to_string(repository().join("docs/metrics.md"))?;
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        ensure!(
            cells.len() == 4 && cells.iter().all(|cell| !cell.is_empty()),
            "not a name, a kind, a unit and a meaning: {row}"
        );
        Ok((cells[0].trim_matches('`').to_owned(), cells[1].to_owned()))
    })
    .collect()
}

/// The sum of a family's series whose names begin so.
fn value(page: &str, name: &str) -> f64 {
    let found = series(page).filter(|(series, _)| {
        let rest = series.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['{', ',']))
    });
    found
        .filter_map(|(_, value)| value.parse::<f64>().ok())
        .sum()
}

#[test]
fn the_page_is_what_is_served() -> Result<()> {
    let cluster = StoreCluster::found(&[])?;
    cluster.etcdctl(&[0], "put a 1")?;
    let documented = documented()?;
    ensure!(documented.len() > 50, "{} rows", documented.len());
    // Only a leader measures how long others take to answer, once it has asked them.
    eventually("page and members agree", LIMIT, || {
        let mut served = Families::new();
        for at in 0..3 {
            served.extend(families(&page(cluster.port(at))?));
        }
        let missing = |here: &Families, there: &Families| -> Vec<String> {
            let rows = here
                .iter()
                .filter(|(name, kind)| there.get(*name) != Some(kind));
            rows.map(|(name, kind)| format!("{name} ({kind})"))
                .collect()
        };
        let unserved = missing(&documented, &served);
        ensure!(unserved.is_empty(), "documented, not served: {unserved:?}");
        let undocumented = missing(&served, &documented);
        ensure!(
            undocumented.is_empty(),
            "served, not in docs/metrics.md: {undocumented:?}"
        );
        Ok(())
    })
}

#[test]
fn what_happens_is_counted() -> Result<()> {
    let cluster = StoreCluster::found(&[])?;
    let leader = cluster.leader(&[0, 1, 2])?;
    let follower = (leader + 1) % 3;
    let before = page(cluster.port(follower))?;
    for number in 0..5 {
        cluster.etcdctl(&[follower], &format!("put k{number} v"))?;
    }
    cluster.etcdctl(&[follower], "del k0")?;
    cluster.etcdctl(&[follower], "get k1")?;
    let after = page(cluster.port(follower))?;
    let grown = |name: &str| value(&after, name) - value(&before, name);
    for (name, expect) in [
        ("etcd_mvcc_put_total", 5.0),
        ("etcd_mvcc_delete_total", 1.0),
        ("etcd_mvcc_range_total", 1.0),
        ("etcd_mvcc_txn_total", 0.0),
        ("etcd_debugging_mvcc_current_revision", 6.0),
        ("xebec_store_commands_applied_total", 6.0),
        ("xebec_store_command_duration_seconds_count", 6.0),
        ("xebec_store_commands_refused_total", 0.0),
        ("etcd_server_proposals_failed_total", 0.0),
    ] {
        ensure!(grown(name) == expect, "{name} grew by {}", grown(name));
    }
    for name in [
        "etcd_disk_backend_commit_duration_seconds_count",
        "xebec_store_apply_duration_seconds_count",
        "etcd_network_peer_sent_bytes_total",
        "etcd_network_peer_received_bytes_total",
    ] {
        ensure!(grown(name) > 0.0, "{name} did not grow");
    }
    eventually("the leader measures round trips", LIMIT, || {
        let page = page(cluster.port(leader))?;
        let measured = value(&page, "etcd_network_peer_round_trip_time_seconds_count");
        ensure!(measured > 1.0, "{measured}");
        Ok(())
    })
}
