//! The table: a figure a line, what to reach, ours and the peers' side by side.

use std::path::PathBuf;

/// Columns beside the figure and what to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    Daymark,
    Nftables,
    Iptables,
}

impl Product {
    /// As its node is named.
    pub fn node(self) -> &'static str {
        match self {
            Product::Daymark => "daymark",
            Product::Nftables => "nftables",
            Product::Iptables => "iptables",
        }
    }
}

#[derive(Default)]
pub struct Report {
    /// There are no peers to compare with.
    alone: bool,
    rows: Vec<(String, &'static str, [String; 3])>,
}

impl Report {
    pub fn new(alone: bool) -> Self {
        Self { alone, ..Self::default() }
    }

    /// Puts a value into its row, which is made if it is not there, and says it at once.
    pub fn put(&mut self, figure: &str, reach: &'static str, product: Product, value: impl ToString) {
        let value = value.to_string();
        eprintln!("  {figure}: {} {value}", product.node());
        let at = self.rows.iter().position(|(f, ..)| f == figure).unwrap_or_else(|| {
            self.rows.push((figure.to_owned(), reach, Default::default()));
            self.rows.len() - 1
        });
        self.rows[at].2[product as usize] = value;
    }

    /// As Markdown, so that it can be pasted.
    pub fn table(&self) -> String {
        let head = ["figure", "to reach", "Daymark", "kube-proxy nftables", "kube-proxy iptables"];
        let mut lines: Vec<Vec<String>> = vec![head.map(str::to_owned).to_vec()];
        for (figure, reach, values) in &self.rows {
            let mut line = vec![figure.clone(), (*reach).to_owned()];
            line.extend(values.iter().cloned());
            if self.alone {
                line[3..].fill("skipped: run bench/peers".to_owned());
            }
            lines.push(line);
        }
        let widths: Vec<usize> =
            (0..head.len()).map(|c| lines.iter().map(|l| l[c].chars().count()).max().unwrap_or(0)).collect();
        lines.insert(1, widths.iter().map(|w| "-".repeat(*w)).collect());
        let padded = |line: &Vec<String>| -> String {
            let cells = line.iter().zip(&widths).map(|(cell, width)| format!(" {cell:<width$} |"));
            format!("|{}\n", cells.collect::<String>())
        };
        lines.iter().map(padded).collect()
    }
}

/// The folder of the peers, if they have been built.
pub fn peers() -> Option<PathBuf> {
    let cache = || {
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home)
    };
    let named = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    let folder = named.or_else(|| Some(cache()?.join("daymark/peers")))?;
    let all = ["etcd", "kube-apiserver", "kube-proxy"];
    all.iter().all(|program| folder.join(program).exists()).then_some(folder)
}
