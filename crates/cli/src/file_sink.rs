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
    /// Begins to write the file `path`, which must not be the `input`. Where it is a link, the file behind it is replaced;
    /// what is there and no file, a device for one, stays.
    pub fn create(path: &Path, input: Option<&Path>) -> Outcome<FileSink> {
        let cannot = |path: &Path, error: &dyn std::fmt::Display| {
            Failure::because(format_args!("cannot write '{}'", path.display()), error)
        };
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if fs::metadata(&target).is_ok_and(|there| !there.is_file()) {
            return Err(cannot(path, &"it is there and is no file"));
        }
        if input.is_some_and(|input| fs::canonicalize(input).is_ok_and(|input| input == target)) {
            return Err(cannot(path, &"it is what is read"));
        }
        let mut part = target.clone().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::create_new(&part).map_err(|error| cannot(&part, &error))?;
        Ok(FileSink { path: target, part, file: BufWriter::new(file), error: None })
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
