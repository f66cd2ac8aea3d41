"""How many chunks at once: by doubling while memory allows it, by halving when it runs out."""

from __future__ import annotations

import torch

from pipeline.encode.batch_size import BatchSize, Taken, batch_size, is_out_of_memory


def after(size: BatchSize, batches: int) -> int:
    for _ in range(batches):
        size.worked(size.now)
    return size.now


def test_it_doubles_as_far_as_what_the_last_batch_took_says_that_twice_as_much_fits():
    chunk = 1 << 20
    size = BatchSize(4, 1000, taken=lambda: Taken(size.now * chunk, 100 * chunk))
    assert [after(size, 1) for _ in range(6)] == [8, 16, 32, 64, 64, 64]  # 64 fit 90 of 100, 128 do not


def test_it_never_passes_the_most():
    assert after(BatchSize(4, 10), 5) == 10


def test_a_batch_that_is_not_half_full_says_nothing():
    size = BatchSize(8, 64)
    size.worked(4)
    assert size.now == 8
    size.worked(5)
    assert size.now == 16


def test_each_failure_makes_it_wait_longer_before_it_grows_again():
    size = BatchSize(8, 64)
    waits = []
    for _ in range(3):
        size.failed(16)
        for good in range(1, 100):  # good batches until it tries 16 again
            size.worked(size.now)
            if size.now == 16:
                waits.append(good)
                break
    assert waits == [8, 16, 32]


def test_on_a_cpu_it_is_what_was_measured_there_and_on_a_gpu_it_is_found():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    sizes = [batch_size(cpu, "fp32"), batch_size(cpu, "bf16"), batch_size(cuda, "bf16"), batch_size(cuda, "bf16", 100)]
    assert [(size.now, size.most) for size in sizes] == [(64, 64), (128, 128), (64, 2048), (100, 100)]


def test_running_out_of_memory_is_known_in_all_its_words():
    out = [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ]
    assert all(map(is_out_of_memory, out))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(KeyError("CUBLAS_STATUS_ALLOC_FAILED"))
