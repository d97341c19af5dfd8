//! The table: a figure a line, what to reach, ours and the peers' side by side.

use std::path::PathBuf;

/// Columns beside the figure and what to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    Daymark,
    Nftables,
    Iptables,
    Kubernetes,
}

impl Product {
    fn head(self) -> &'static str {
        match self {
            Product::Daymark => "Daymark",
            Product::Nftables => "kube-proxy nftables",
            Product::Iptables => "kube-proxy iptables",
            Product::Kubernetes => "kube-apiserver + etcd",
        }
    }

    /// As its node is named, if it has one.
    pub fn node(self) -> &'static str {
        match self {
            Product::Daymark => "daymark",
            Product::Nftables => "nftables",
            Product::Iptables => "iptables",
            Product::Kubernetes => "kubernetes",
        }
    }
}

pub struct Report {
    columns: &'static [Product],
    /// There are no peers to compare with.
    alone: bool,
    rows: Vec<(String, &'static str, Vec<String>)>,
}

impl Report {
    pub fn new(columns: &'static [Product], alone: bool) -> Self {
        Self { columns, alone, rows: Vec::new() }
    }

    /// Puts a value into its row, which is made if it is not there, and says it at once.
    pub fn put(&mut self, figure: &str, reach: &'static str, product: Product, value: impl ToString) {
        let value = value.to_string();
        eprintln!("  {figure}: {} {value}", product.node());
        let at = self.rows.iter().position(|(f, ..)| f == figure).unwrap_or_else(|| {
            self.rows.push((figure.to_owned(), reach, vec![String::new(); self.columns.len()]));
            self.rows.len() - 1
        });
        if let Some(column) = self.columns.iter().position(|c| *c == product) {
            self.rows[at].2[column] = value;
        }
    }

    /// As Markdown, so that it can be pasted.
    pub fn table(&self) -> String {
        let heads = self.columns.iter().map(|product| product.head());
        let head: Vec<String> = ["figure", "to reach"].into_iter().chain(heads).map(str::to_owned).collect();
        let columns = head.len();
        let mut lines: Vec<Vec<String>> = vec![head];
        for (figure, reach, values) in &self.rows {
            let mut line = vec![figure.clone(), (*reach).to_owned()];
            line.extend(values.iter().cloned());
            if self.alone {
                line[3..].fill("skipped: run bench/peers".to_owned());
            }
            lines.push(line);
        }
        let widths: Vec<usize> =
            (0..columns).map(|c| lines.iter().map(|l| l[c].chars().count()).max().unwrap_or(0)).collect();
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
