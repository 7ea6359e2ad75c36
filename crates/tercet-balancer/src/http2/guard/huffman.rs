//! The Huffman code of header strings (RFC 7541 appendix B).

/// The EOS symbol, 30 bits, which no string may contain (RFC 7541 section 5.2).
const END: u64 = 0x3fff_ffff;
/// The number of symbols by code length in bits (RFC 7541 appendix B).
const CODES: [(u32, u64); 21] = [
    (5, 10),
    (6, 26),
    (7, 32),
    (8, 6),
    (10, 5),
    (11, 3),
    (12, 2),
    (13, 6),
    (14, 2),
    (15, 3),
    (19, 3),
    (20, 8),
    (21, 13),
    (22, 26),
    (23, 29),
    (24, 12),
    (25, 4),
    (26, 15),
    (27, 19),
    (28, 29),
    (30, 4),
];
/// The code is canonical: shorter codes are smaller. For each length, the end of its codes, left-aligned in 32 bits.
const LIMITS: [(u32, u64); CODES.len()] = {
    let mut limits = CODES;
    let mut end = 0;
    let mut at = 0;
    while at < CODES.len() {
        let (bits, count) = CODES[at];
        end += count << (32 - bits);
        limits[at] = (bits, end);
        at += 1;
    }
    assert!(end == 1 << 32, "every sequence of bits is a code's start");
    limits
};
/// The symbols in the order of their codes, without EOS (RFC 7541 appendix B).
const SYMBOLS: [u8; 256] = [
    48, 49, 50, 97, 99, 101, 105, 111, 115, 116, 32, 37, 45, 46, 47, 51, 52, 53, 54, 55, 56, 57, 61, 65, 95,
    98, 100, 102, 103, 104, 108, 109, 110, 112, 114, 117, 58, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77,
    78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 89, 106, 107, 113, 118, 119, 120, 121, 122, 38, 42, 44, 59, 88,
    90, 33, 34, 40, 41, 63, 39, 43, 124, 35, 62, 0, 36, 64, 91, 93, 126, 94, 125, 60, 96, 123, 92, 195, 208,
    128, 130, 131, 162, 184, 194, 224, 226, 153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230,
    129, 132, 133, 134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173, 178, 181, 185, 186, 187, 189, 190,
    196, 198, 228, 232, 233, 1, 135, 137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157, 158,
    165, 166, 168, 174, 175, 180, 182, 183, 188, 191, 197, 231, 239, 9, 142, 144, 145, 148, 159, 171, 206,
    215, 225, 236, 237, 199, 207, 234, 235, 192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242,
    243, 255, 203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252, 253, 254,
    2, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29, 30, 31, 127,
    220, 249, 10, 13, 22,
];

/// For each code length, the index of its last symbol.
const LASTS: [usize; CODES.len()] = {
    let mut lasts = [0; CODES.len()];
    let mut count = 0;
    let mut at = 0;
    while at < CODES.len() {
        count += CODES[at].1 as usize;
        lasts[at] = count - 1;
        at += 1;
    }
    lasts
};

/// Decodes a string and appends it to `decoded`; `None` if it is malformed.
pub(super) fn decode(text: &[u8], decoded: &mut Vec<u8>) -> Option<()> {
    let mut text = text.iter();
    // The next bits, left-aligned, and their number.
    let (mut bits, mut held) = (0_u64, 0);
    loop {
        while held <= 56
            && let Some(byte) = text.next()
        {
            bits |= u64::from(*byte) << (56 - held);
            held += 8;
        }
        if held == 0 {
            return Some(());
        }
        let next = bits >> 32;
        let class = LIMITS.iter().position(|(_, end)| next < *end)?;
        let (code, end) = LIMITS[class];
        if code > held {
            // The padding is shorter than a byte, all ones.
            let is_padding = held < 8 && bits >> (64 - held) == (1 << held) - 1;
            return is_padding.then_some(());
        }
        if bits >> 34 == END {
            return None;
        }
        // Counted from the last code of this length.
        let behind = ((end - 1 - next) >> (32 - code)) as usize;
        decoded.push(SYMBOLS[LASTS[class] - behind]);
        bits <<= code;
        held -= code;
    }
}
