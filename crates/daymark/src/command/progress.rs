//! Telling the user what is going on: a line that changes on a terminal, plain lines elsewhere.

use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

pub struct Progress {
    bar: ProgressBar,
    began: Instant,
    plain: bool,
}

impl Progress {
    pub fn begin() -> Self {
        let bar = ProgressBar::new_spinner();
        bar.set_style(ProgressStyle::with_template("{spinner} {msg}").expect("a constant template"));
        bar.enable_steady_tick(std::time::Duration::from_millis(80));
        Self { plain: bar.is_hidden(), bar, began: Instant::now() }
    }

    /// What is being done now.
    pub fn step(&self, text: impl Into<String>) {
        let text = text.into();
        if self.plain {
            eprintln!("  {text} ({:.2} s)", self.began.elapsed().as_secs_f64());
        } else {
            self.bar.set_message(text);
        }
    }

    /// Ends the line; returns the seconds since the beginning.
    pub fn done(self) -> f64 {
        self.bar.finish_and_clear();
        self.began.elapsed().as_secs_f64()
    }
}
