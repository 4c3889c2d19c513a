// For LD_PRELOAD: allocations that fail when the test says so (board.h). `new` are those of C++,
// `malloc` those of C.

#include <cerrno>
#include <cstddef>
#include <new>

#include "board.h"

// glibc's own, which its malloc and the others are other names of.
extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* block, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);
}

namespace {

void* OrThrow(void* block) {
  if (block == nullptr) throw std::bad_alloc();
  return block;
}

bool NewFails() {
  static faults::Entry* const entry = faults::Find("new");
  return faults::Fails(entry);
}

bool MallocFails() {
  static faults::Entry* const entry = faults::Find("malloc");
  if (!faults::Fails(entry)) return false;
  errno = ENOMEM;
  return true;
}

}  // namespace

void* operator new(std::size_t size) {
  return OrThrow(NewFails() ? nullptr : __libc_malloc(size == 0 ? 1 : size));
}
void* operator new[](std::size_t size) { return operator new(size); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return OrThrow(NewFails() ? nullptr : __libc_memalign(static_cast<std::size_t>(alignment), size));
}

extern "C" {
void* malloc(std::size_t size) { return MallocFails() ? nullptr : __libc_malloc(size); }
void* calloc(std::size_t count, std::size_t size) {
  return MallocFails() ? nullptr : __libc_calloc(count, size);
}
void* realloc(void* block, std::size_t size) {
  return MallocFails() ? nullptr : __libc_realloc(block, size);
}
}
