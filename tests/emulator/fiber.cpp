#include "emulator/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <stdexcept>
#include <utility>

namespace mixserve::emulator {
namespace {

constexpr size_t stack_bytes = 256 << 10;

}  // namespace

Fiber::Fiber() {
    void* memory = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::runtime_error("no memory for a fiber's stack");
    stack_ = static_cast<std::byte*>(memory);
}

Fiber::~Fiber() {
    munmap(stack_, stack_bytes);
}

void Fiber::enter(unsigned high, unsigned low) {
    auto* fiber = reinterpret_cast<Fiber*>(static_cast<uintptr_t>(high) << 32 | low);
    fiber->body_();
    fiber->ended_ = true;
    fiber->yield();
}

void Fiber::start(std::function<void()> body) {
    body_ = std::move(body);
    ended_ = false;
    getcontext(&own_);
    own_.uc_stack.ss_sp = stack_;
    own_.uc_stack.ss_size = stack_bytes;
    own_.uc_link = nullptr;
    const auto address = reinterpret_cast<uintptr_t>(this);
    // makecontext takes functions without a prototype, and ints.
    makecontext(&own_, reinterpret_cast<void (*)()>(&Fiber::enter), 2, static_cast<unsigned>(address >> 32),
                static_cast<unsigned>(address));
}

void Fiber::resume() {
    swapcontext(&caller_, &own_);
}

void Fiber::yield() {
    swapcontext(&own_, &caller_);
}

}  // namespace mixserve::emulator
