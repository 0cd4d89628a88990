//! A model file in the making, behind the engine's `Sink`.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use corelm::gguf::writer::{Sink, SinkFull};

use crate::failure::{Failure, Outcome};

/// A file in the making: it gets its name when it is whole, so that a failure leaves what was there.
pub struct FileSink {
    path: PathBuf,
    part: PathBuf,
    file: BufWriter<File>,
    error: Option<io::Error>,
}

impl FileSink {
    /// Begins to write the file `path`.
    pub fn create(path: &Path) -> Outcome<FileSink> {
        let mut part = path.to_owned().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::create(&part)
            .map_err(|error| Failure::because(format_args!("cannot write '{}'", part.display()), error))?;
        Ok(FileSink { path: path.to_owned(), part, file: BufWriter::new(file), error: None })
    }

    /// Gives the file its name if all was `written`; removes it otherwise.
    pub fn finish(mut self, written: Outcome) -> Outcome {
        let done = match self.error.take() {
            Some(error) => Err(error),
            None if written.is_err() => {
                let _ = fs::remove_file(&self.part);
                return written;
            }
            None => self.file.flush().and_then(|()| fs::rename(&self.part, &self.path)),
        };
        done.map_err(|error| {
            let _ = fs::remove_file(&self.part);
            Failure::because(format_args!("cannot write '{}'", self.path.display()), error)
        })
    }
}

impl Sink for &mut FileSink {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkFull> {
        self.file.write_all(bytes).map_err(|error| {
            self.error = Some(error);
            SinkFull
        })
    }
}
