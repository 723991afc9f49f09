//! Arrays for `--init`.

use std::fs;

use impasto::error::Error;
use impasto::picture::read_npy;

use super::assert_says;

fn npy(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend([version, 0]);
    if version == 1 {
        bytes.extend((header.len() as u16).to_le_bytes());
    } else {
        bytes.extend((header.len() as u32).to_le_bytes());
    }
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn read_npy_bytes(bytes: &[u8]) -> Result<(Vec<usize>, Vec<f32>), Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("init.npy");
    fs::write(&path, bytes).unwrap();
    read_npy(&path)
}

const NPY: &str = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 3), }   \n";

#[test]
fn npy_arrays_are_read() {
    let values = [1.5f32, -2.0, 0.0, f32::MIN_POSITIVE, 255.0, -128.25];
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    for version in [1, 2, 3] {
        let (shape, got) = read_npy_bytes(&npy(version, NPY, &data)).unwrap();
        assert_eq!((shape, got), (vec![1, 2, 3], values.to_vec()));
    }
    for (text, want) in [("(6,)", vec![6]), ("(2,3)", vec![2, 3]), ("(1,1,1,6)", vec![1, 1, 1, 6])] {
        let header = NPY.replace("(1, 2, 3)", text);
        assert_eq!(read_npy_bytes(&npy(1, &header, &data)).unwrap().0, want);
    }
    let scalar = NPY.replace("(1, 2, 3)", "()");
    assert_eq!(read_npy_bytes(&npy(1, &scalar, &data[..4])).unwrap(), (vec![], vec![1.5]));
}

#[test]
fn malformed_npy_files_are_refused() {
    let data = [0; 24];
    let good = npy(1, NPY, &data);
    for cut in 0..good.len() {
        assert_says(&read_npy_bytes(&good[..cut]).unwrap_err(), "init.npy", "");
    }
    let longer = [good.as_slice(), &[0]].concat();
    assert_says(&read_npy_bytes(&longer).unwrap_err(), "init.npy", "25 bytes");
    let with = |from: &str, to: &str| npy(2, &NPY.replace(from, to), &data);
    for (bytes, what) in [
        (b"MATLAB 5.0".to_vec(), "not a NumPy"),
        (npy(9, NPY, &data), "unknown .npy version"),
        (with("<f4", "<f8"), "little-endian float32"),
        (with("<f4", ">f4"), "little-endian float32"),
        (with("False", "True"), "C order"),
        (with("'descr'", "'other'"), "little-endian float32"),
        (with("(1, 2, 3)", "(1, 2, -3)"), "no usable shape"),
        (with("(1, 2, 3)", "(1, 2, 3"), "no usable shape"),
        (with("(1, 2, 3)", "(,)"), "no usable shape"),
        (with("(1, 2, 3)", "(1,1,1,1,1,1,1,2,3)"), "no usable shape"),
        (with("(1, 2, 3)", "(99999999999999999999,)"), "no usable shape"),
        (with("(1, 2, 3)", "(4294967296, 4294967296, 6)"), "24 bytes"),
        (with("(1, 2, 3)", "(2, 2, 3)"), "24 bytes"),
        (npy(2, &" ".repeat(70_000), &data), "unlikely length"),
        ([b"\x93NUMPY\x02\0".as_slice(), &[0xff; 40]].concat(), "unlikely length"),
        ([b"\x93NUMPY\x01\0\x04\0".as_slice(), &[0xff; 40]].concat(), "no text"),
    ] {
        assert_says(&read_npy_bytes(&bytes).unwrap_err(), "init.npy", what);
    }
}
