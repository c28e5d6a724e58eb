//! Takes the kernel out of its compressed image.
//!
//! QEMU starts an uncompressed kernel through its PVH entry 5 % faster than it starts a compressed one, because no guest code
//! has to decompress it. Layout: kernel documentation, `arch/x86/boot.rst`.

use thiserror::Error;

/// The compressed image holds no kernel that we can take out.
#[derive(Debug, Error)]
pub enum VmlinuxError {
    /// The file is too short or its signature is wrong.
    #[error("it is not a compressed x86 Linux kernel")]
    NotBzImage,
    /// Something else than LZ4.
    #[error("its compression ({0}) is not supported: use a kernel compressed with lz4, such as Debian 12's")]
    Compression(&'static str),
    /// A compressed block is broken.
    #[error("its compressed content is broken")]
    Block(#[source] lz4_flex::block::DecompressError),
    /// The result has another length than the image says.
    #[error("it unpacks to {found} bytes instead of {expected}")]
    Length {
        /// What the image says.
        expected: usize,
        /// What came out.
        found: usize,
    },
    /// The result is not a program.
    #[error("it does not unpack to an ELF program")]
    NotElf,
}

/// The legacy format of LZ4: this number, then blocks of up to 8 MiB, each after its compressed length.
const LZ4_LEGACY: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
const LZ4_LEGACY_BLOCK: usize = 8 << 20;

/// Compressions that a kernel may have, by their first bytes.
const OTHER: [(&[u8], &str); 5] = [
    (&[0x1f, 0x8b], "gzip"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
    (&[0xfd, b'7', b'z', b'X', b'Z'], "xz"),
    (b"BZh", "bzip2"),
    (&[0x89, b'L', b'Z', b'O'], "lzo"),
];

/// The uncompressed kernel in `image`.
pub(super) fn extract(image: &[u8]) -> Result<Vec<u8>, VmlinuxError> {
    let payload = payload(image).ok_or(VmlinuxError::NotBzImage)?;
    // The build appends the length of the uncompressed kernel.
    let (payload, length) = payload.split_last_chunk::<4>().ok_or(VmlinuxError::NotBzImage)?;
    let Some(blocks) = payload.strip_prefix(&LZ4_LEGACY) else {
        let known = OTHER.iter().find(|(magic, _)| payload.starts_with(magic));
        return Err(VmlinuxError::Compression(known.map_or("unknown", |(_, name)| name)));
    };
    let kernel = lz4_legacy(blocks)?;
    let expected = u32::from_le_bytes(*length) as usize;
    if kernel.len() != expected {
        return Err(VmlinuxError::Length { expected, found: kernel.len() });
    }
    if !kernel.starts_with(b"\x7fELF") {
        return Err(VmlinuxError::NotElf);
    }
    Ok(kernel)
}

/// The compressed kernel, found by the image's set-up header (protocol 2.08 and later).
fn payload(image: &[u8]) -> Option<&[u8]> {
    let field = |offset: usize| -> Option<usize> {
        let bytes: [u8; 4] = image.get(offset..offset + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let version = u16::from_le_bytes([*image.get(0x206)?, *image.get(0x207)?]);
    if version < 0x0208 {
        return None;
    }
    // 0 stands for 4, as in the oldest boot loaders.
    let setup_sectors = match usize::from(*image.get(0x1f1)?) {
        0 => 4,
        sectors => sectors,
    };
    let start = (setup_sectors + 1) * 512 + field(0x248)?;
    image.get(start..start.checked_add(field(0x24c)?)?)
}

fn lz4_legacy(mut blocks: &[u8]) -> Result<Vec<u8>, VmlinuxError> {
    let mut kernel = Vec::new();
    while let Some((length, rest)) = blocks.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let (block, rest) = rest.split_at_checked(length).ok_or(VmlinuxError::NotBzImage)?;
        let start = kernel.len();
        kernel.resize(start + LZ4_LEGACY_BLOCK, 0);
        let written =
            lz4_flex::block::decompress_into(block, &mut kernel[start..]).map_err(VmlinuxError::Block)?;
        kernel.truncate(start + written);
        blocks = rest;
    }
    Ok(kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A compressed image around `blocks`, which claims to unpack to `length` bytes.
    fn image(magic: &[u8], blocks: &[&[u8]], length: usize) -> Vec<u8> {
        let mut image = vec![0; 1024];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
        image.extend_from_slice(magic);
        for block in blocks {
            image.extend_from_slice(&u32::try_from(block.len()).unwrap().to_le_bytes());
            image.extend_from_slice(block);
        }
        image.extend_from_slice(&u32::try_from(length).unwrap().to_le_bytes());
        let payload = u32::try_from(image.len() - 1024).unwrap();
        image[0x24c..0x250].copy_from_slice(&payload.to_le_bytes());
        image
    }

    fn kernel() -> Vec<u8> {
        // More than one block, and not all zeros.
        let mut kernel: Vec<u8> =
            (0..LZ4_LEGACY_BLOCK + 12345).map(|i| (i / 7 % 251).to_le_bytes()[0]).collect();
        kernel[..4].copy_from_slice(b"\x7fELF");
        kernel
    }

    #[test]
    fn a_kernel_of_two_blocks_comes_out_whole() {
        let kernel = kernel();
        let blocks: Vec<Vec<u8>> = kernel.chunks(LZ4_LEGACY_BLOCK).map(lz4_flex::block::compress).collect();
        let blocks: Vec<&[u8]> = blocks.iter().map(Vec::as_slice).collect();
        assert!(extract(&image(&LZ4_LEGACY, &blocks, kernel.len())).unwrap() == kernel);
        let error = extract(&image(&LZ4_LEGACY, &blocks[..1], kernel.len())).unwrap_err();
        assert!(matches!(error, VmlinuxError::Length { .. }), "{error}");
    }

    #[test]
    fn other_files_are_refused_by_name() {
        assert!(matches!(extract(b"").unwrap_err(), VmlinuxError::NotBzImage));
        assert!(matches!(extract(&[0; 4096]).unwrap_err(), VmlinuxError::NotBzImage));
        let error = extract(&image(&[0x28, 0xb5, 0x2f, 0xfd], &[], 9)).unwrap_err();
        assert!(error.to_string().contains("zstd"), "{error}");
        let text = lz4_flex::block::compress(b"not a program");
        assert!(matches!(extract(&image(&LZ4_LEGACY, &[&text], 13)).unwrap_err(), VmlinuxError::NotElf));
        let mut short = image(&LZ4_LEGACY, &[&text], 13);
        short.truncate(1030);
        assert!(matches!(extract(&short).unwrap_err(), VmlinuxError::NotBzImage));
    }

    #[test]
    fn the_lz4_program_writes_what_we_read() {
        use std::io::Write;
        use std::process::{Command, Stdio};
        let kernel = kernel();
        let mut lz4 = Command::new("lz4")
            .args(["-l", "-9", "-c"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = lz4.stdin.take().unwrap();
        let input = kernel.clone();
        let writer = std::thread::spawn(move || stdin.write_all(&input).unwrap());
        let output = lz4.wait_with_output().unwrap();
        writer.join().unwrap();
        let blocks = output.stdout.strip_prefix(&LZ4_LEGACY).unwrap();
        assert!(lz4_legacy(blocks).unwrap() == kernel);
    }
}
