//! zstd frames as this format has them: without zstd's magic number, content
//! size, dictionary id and checksum, because the index already says all that.

use zstd::zstd_safe::{CCtx, CParameter, DCtx, DDict, DParameter, FrameFormat, Strategy, compress_bound};

use crate::error::{Error, Result};

/// Shortest match looked for when there is a dictionary. zstd's own choice
/// goes by the dictionary's size and is too long for blocks of a page.
const MIN_MATCH: u32 = 4;

/// Shortest match looked for in clusters. What they are for is to be read fast: fewer, longer matches
/// decompress by an eighth faster, and at the level below take no more room than clusters at level
/// 3 do otherwise.
const CLUSTER_MIN_MATCH: u32 = 6;
/// Lowest level for clusters, which are few and compressed once.
const CLUSTER_LEVEL: i32 = 6;

/// Level for clusters that are waited for at every start. An interpreter's pages take half the time
/// of those at [`CLUSTER_LEVEL`] to decompress, for 1.6 times their bytes.
const FIRST_CLUSTERS_LEVEL: i32 = -7;

/// Levels below this use strategies that, given a dictionary, always take its
/// entropy tables, however badly they fit a page: that costs more than the
/// dictionary saves. So such levels get the first strategy that does not.
const FIRST_LEVEL_TO_WEIGH_TABLES: i32 = 6;
const FIRST_STRATEGY_TO_WEIGH_TABLES: Strategy = Strategy::ZSTD_lazy;

/// Compresses blocks of bytes, one frame each.
pub(crate) struct Compressor {
    context: CCtx<'static>,
    frame: Vec<u8>,
}

impl Compressor {
    /// A compressor for blocks of up to `block_size` bytes.
    pub(crate) fn new(block_size: usize, level: i32, dictionary: Option<&[u8]>) -> Result<Self> {
        let mut context = CCtx::try_create().ok_or_else(|| no_memory("create a compressor"))?;
        for parameter in [
            CParameter::CompressionLevel(level),
            CParameter::Format(FrameFormat::Magicless),
            CParameter::ContentSizeFlag(false),
            CParameter::ChecksumFlag(false),
            CParameter::DictIdFlag(false),
        ] {
            context.set_parameter(parameter).map_err(Error::zstd("set up a compressor"))?;
        }
        if let Some(dictionary) = dictionary {
            let failed = || Error::zstd("use the dictionary");
            context.set_parameter(CParameter::MinMatch(MIN_MATCH)).map_err(failed())?;
            if level < FIRST_LEVEL_TO_WEIGH_TABLES {
                context
                    .set_parameter(CParameter::Strategy(FIRST_STRATEGY_TO_WEIGH_TABLES))
                    .map_err(failed())?;
            }
            context.load_dictionary(dictionary).map_err(failed())?;
        }
        Ok(Self { context, frame: Vec::with_capacity(compress_bound(block_size)) })
    }

    /// A compressor for clusters of up to `cluster_size` bytes.
    pub(crate) fn for_clusters(cluster_size: usize, level: i32) -> Result<Self> {
        let mut compressor = Self::new(cluster_size, level.max(CLUSTER_LEVEL), None)?;
        compressor
            .context
            .set_parameter(CParameter::MinMatch(CLUSTER_MIN_MATCH))
            .map_err(Error::zstd("set up a compressor"))?;
        Ok(compressor)
    }

    /// A compressor for clusters that are waited for at every start.
    pub(crate) fn for_first_clusters(cluster_size: usize) -> Result<Self> {
        Self::new(cluster_size, FIRST_CLUSTERS_LEVEL, None)
    }

    /// Compresses a block. The result depends on nothing but the block and
    /// what [`Self::new`] was given, not on the blocks before.
    pub(crate) fn compress(&mut self, block: &[u8]) -> Result<&[u8]> {
        self.frame.clear();
        self.context.compress2(&mut self.frame, block).map_err(Error::zstd("compress"))?;
        Ok(&self.frame)
    }
}

/// Decompresses frames.
pub(crate) struct Decompressor(DCtx<'static>);

impl Decompressor {
    /// A decompressor.
    pub(crate) fn new() -> Result<Self> {
        let mut context = DCtx::try_create().ok_or_else(|| no_memory("create a decompressor"))?;
        context
            .set_parameter(DParameter::Format(FrameFormat::Magicless))
            .map_err(Error::zstd("set up a decompressor"))?;
        Ok(Self(context))
    }

    /// Decompresses a frame; whether it was valid and filled exactly `out`.
    /// Never writes past `out`, whatever the frame says.
    pub(crate) fn fill(&mut self, out: &mut [u8], frame: &[u8], dictionary: Option<&DDict<'static>>) -> bool {
        let length = out.len();
        let written = match dictionary {
            Some(dictionary) => self.0.decompress_using_ddict(out, frame, dictionary),
            None => self.0.decompress(out, frame),
        };
        written == Ok(length)
    }
}

/// The error for a context that could not be created.
fn no_memory(action: &'static str) -> Error {
    Error::Zstd { action, reason: "not enough memory".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = 4096;

    #[test]
    fn round_trip_without_magic_number() {
        let block: Vec<u8> = (0..BLOCK).map(|i| (i / 100) as u8).collect();
        let mut compressor = Compressor::new(BLOCK, 3, None).unwrap();
        let frame = compressor.compress(&block).unwrap().to_vec();
        assert_ne!(frame[..4], 0xfd2f_b528_u32.to_le_bytes());

        let mut out = vec![0; BLOCK];
        let mut decompressor = Decompressor::new().unwrap();
        assert!(decompressor.fill(&mut out, &frame, None));
        assert_eq!(out, block);
    }

    #[test]
    fn a_frame_of_another_size_is_refused() {
        let block = vec![1; BLOCK];
        let mut compressor = Compressor::new(BLOCK, 3, None).unwrap();
        let frame = compressor.compress(&block).unwrap().to_vec();
        let mut decompressor = Decompressor::new().unwrap();
        assert!(!decompressor.fill(&mut vec![0; BLOCK - 1], &frame, None));
        assert!(!decompressor.fill(&mut vec![0; BLOCK + 1], &frame, None));
        assert!(!decompressor.fill(&mut vec![0; BLOCK], &[], None));
        // A failure must not spoil the context.
        assert!(decompressor.fill(&mut vec![0; BLOCK], &frame, None));
    }

    #[test]
    fn the_frame_does_not_depend_on_earlier_blocks() {
        let first: Vec<u8> = (0..BLOCK).map(|i| (i * 7 / 3) as u8).collect();
        let second: Vec<u8> = (0..BLOCK).map(|i| (i * i / 11) as u8).collect();
        let mut fresh = Compressor::new(BLOCK, 3, None).unwrap();
        let alone = fresh.compress(&second).unwrap().to_vec();
        let mut used = Compressor::new(BLOCK, 3, None).unwrap();
        used.compress(&first).unwrap();
        assert_eq!(used.compress(&second).unwrap(), alone);
    }
}
