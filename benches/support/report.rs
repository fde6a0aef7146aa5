//! Numbers for people and for scripts.

use std::path::PathBuf;

use serde_json::Value;

use super::Result;

/// The middle one; the mean of the two middle ones of an even number.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// Prints rows in columns as wide as their widest cell; the first one is aligned to the left.
pub fn print_table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(i, (cell, width))| match i {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        println!("  {}", cells.join("  ").trim_end());
    }
}

/// A goal and what was measured.
pub struct Goal {
    /// What ought to be.
    pub what: String,
    /// The ratio measured.
    pub figure: f64,
    /// The least that it should be.
    pub least: f64,
}

impl Goal {
    /// Whether it is met.
    pub fn is_met(&self) -> bool {
        self.figure >= self.least
    }

    /// For scripts.
    pub fn to_json(&self) -> Value {
        serde_json::json!({
            "goal": self.what, "figure": self.figure, "least": self.least, "met": self.is_met(),
        })
    }
}

/// Prints the goals.
pub fn print_goals(goals: &[Goal]) {
    println!("\nGoals, as ratios within this run:");
    let rows: Vec<Vec<String>> = goals
        .iter()
        .map(|goal| {
            let met = if goal.is_met() { "met" } else { "NOT met" };
            vec![goal.what.clone(), format!("{:.2}x", goal.figure), format!(">= {}x", goal.least), met.into()]
        })
        .collect();
    print_table(&rows);
}

/// Writes a benchmark's results beside the build; returns where.
pub fn save(name: &str, value: &Value) -> Result<PathBuf> {
    // Cargo's directory for temporary files of benches lies in its target directory.
    let mut directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    directory.pop();
    directory.push("dejavm-bench");
    std::fs::create_dir_all(&directory)?;
    let path = directory.join(name).with_extension("json");
    std::fs::write(&path, serde_json::to_string_pretty(value)?)?;
    Ok(path)
}
