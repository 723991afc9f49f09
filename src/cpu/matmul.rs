//! A bounds-checked door to the `gemm` crate.

use crate::kernel::Real;

/// A strided matrix over a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a, T> {
    /// Elements.
    pub(crate) data: &'a [T],
    /// Distance between vertically neighbouring elements.
    pub(crate) row_stride: usize,
    /// Distance between horizontally neighbouring elements.
    pub(crate) column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Row-major, `columns` wide.
    pub(crate) fn rows(data: &'a [T], columns: usize) -> Self {
        Matrix { data, row_stride: columns, column_stride: 1 }
    }

    /// The transpose of a row-major matrix that is `columns` wide.
    pub(crate) fn transposed(data: &'a [T], columns: usize) -> Self {
        Matrix { data, row_stride: 1, column_stride: columns }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        rows == 0 || columns == 0 || (rows - 1) * self.row_stride + (columns - 1) * self.column_stride < self.data.len()
    }
}

/// `output[m,n] (= or +=) a[m,k] * b[k,n]`, output in rows `stride` apart. Single-threaded: callers split the work.
pub(crate) fn matmul<T: Real>(
    output: &mut [T],
    stride: usize,
    [m, n, k]: [usize; 3],
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    add: bool,
) {
    let fits = stride >= n && Matrix::rows(output, stride).holds(m, n);
    assert!(fits && a.holds(m, k) && b.holds(k, n), "matmul: operands shorter than {m}x{n}x{k}");
    // SAFETY: the assertion shows that every element addressed by the sizes and strides lies inside its slice, and
    // `output` is borrowed mutably, so it overlaps neither operand.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            output.as_mut_ptr(),
            1,
            stride as isize,
            add,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            T::one(),
            T::one(),
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
