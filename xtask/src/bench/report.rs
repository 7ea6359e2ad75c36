//! docs/benchmarks.md: a part per bench between two markers, so that each can be measured anew alone.

use std::fs;

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;

const PATH: &str = "docs/benchmarks.md";

/// Puts `text` in the place of the part `name`, or at the end if there is none yet.
pub(crate) fn write(workspace: &Workspace, name: &str, text: &str) -> Result<()> {
    let path = workspace.root.join(PATH);
    let page = fs::read_to_string(&path).unwrap_or_else(|_| {
        "# Benchmarks\n\nMeasured by `cargo xtask bench`; absolute numbers depend on the machine named, ratios much less.\n".to_owned()
    });
    fs::write(&path, with(&page, name, text)).with_context(|| format!("{PATH}: cannot be written"))?;
    println!("wrote {PATH}");
    Ok(())
}

fn with(page: &str, name: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- {name} begins -->\n"), format!("<!-- {name} ends -->\n"));
    let part = format!("{begin}{}\n{end}", text.trim());
    match (page.split_once(&begin), page.split_once(&end)) {
        (Some((before, _)), Some((_, after))) => format!("{before}{part}{after}"),
        _ => format!("{}\n\n{part}", page.trim_end()),
    }
}

/// The middle of `values`, which are not empty; of an even number the higher of the two.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Whether a goal holds, for a table.
pub(crate) fn verdict(holds: bool) -> &'static str {
    if holds { "holds" } else { "**missed**" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_put_in_its_place() {
        let page = with("# Benchmarks\n", "balancer", "one");
        assert_eq!(page, "# Benchmarks\n\n<!-- balancer begins -->\none\n<!-- balancer ends -->\n");
        let page = with(&page, "api", "two");
        let page = with(&page, "balancer", "three\n");
        assert_eq!(
            page,
            "# Benchmarks\n\n<!-- balancer begins -->\nthree\n<!-- balancer ends -->\n\n\
             <!-- api begins -->\ntwo\n<!-- api ends -->\n"
        );
    }

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    }
}
