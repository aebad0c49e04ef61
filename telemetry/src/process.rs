//! What the process itself takes, from `/proc`.

/// Reads and records it; call it before [`crate::Registry::render`]. Blocks for some microseconds, never on a disk.
pub fn sample() {
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u32>().ok()
        };
        if let Some(kilobytes) = field("VmRSS:") {
            metrics::gauge!("squall_process_resident_bytes").set(f64::from(kilobytes) * 1024.0);
        }
        if let Some(threads) = field("Threads:") {
            metrics::gauge!("squall_process_threads").set(f64::from(threads));
        }
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        let count = u32::try_from(files.count()).unwrap_or(u32::MAX);
        metrics::gauge!("squall_process_open_files").set(f64::from(count));
    }
    if let Some(ticks) = std::fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(ticks) {
        // USER_HZ is 100 wherever Linux runs
        metrics::counter!("squall_process_cpu_seconds_total").absolute(ticks / 100);
    }
}

/// User and system time; the command's name, in parentheses, may hold spaces.
fn ticks(stat: &str) -> Option<u64> {
    let rest = stat.rsplit_once(')')?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_name_may_hold_anything() {
        let stat = "1 (a) b) S 1 1 1 0 -1 4194560 10 0 0 0 250 50 0 0 20 0 4 0 100 1 1";
        assert_eq!(super::ticks(stat), Some(300));
    }
}
