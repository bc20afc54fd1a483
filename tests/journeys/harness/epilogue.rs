//! Cleaning up that happens even when the test process is killed.

use std::process::{Child, ChildStdin, Command, Stdio};

/// A shell script that runs when this is dropped, or when the test process ends, however it ends:
/// a shell outside our process group waits for the end of a pipe that only we hold.
pub struct Epilogue {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Epilogue {
    /// Has `script` run at the end, as whoever `prefix` (such as `setpriv --reuid=postgres`) makes it.
    pub fn new(prefix: &[&str], script: &str) -> Self {
        use std::os::unix::process::CommandExt;
        let script = format!("while read -r line; do :; done; {script}");
        let mut words = prefix.iter().copied().chain(["sh", "-c", &script]);
        let mut shell = Command::new(words.next().unwrap())
            .args(words)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("a shell starts");
        let pipe = shell.stdin.take();
        Self { shell, pipe }
    }
}

impl Drop for Epilogue {
    fn drop(&mut self) {
        self.pipe.take();
        // Nothing can be done about a failure here.
        let _ = self.shell.wait();
    }
}
