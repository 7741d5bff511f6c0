#pragma once

#include <fmt/format.h>
#include <hdf5.h>

#include <string>
#include <utility>

namespace mixserve::io {

/// Owns one HDF5 identifier of any kind. Only files in src/io include this.
class Hdf5Handle {
  public:
    Hdf5Handle() = default;
    explicit Hdf5Handle(hid_t id) : id_(id) {}
    ~Hdf5Handle() { close(); }
    Hdf5Handle(Hdf5Handle&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)) {}
    Hdf5Handle& operator=(Hdf5Handle&& other) noexcept {
        std::swap(id_, other.id_);
        return *this;
    }

    hid_t id() const { return id_; }
    bool valid() const { return id_ >= 0; }
    /// False when HDF5 could not write what it held for this identifier.
    bool close();

  private:
    hid_t id_ = H5I_INVALID_HID;
};

/// For its lifetime HDF5 prints no errors of its own: they are folded into ours with hdf5_message().
class QuietHdf5 {
  public:
    QuietHdf5();
    ~QuietHdf5();
    QuietHdf5(const QuietHdf5&) = delete;
    QuietHdf5& operator=(const QuietHdf5&) = delete;

  private:
    H5E_auto2_t print_ = nullptr;
    void* data_ = nullptr;
};

/// What HDF5 says about its last failed call: the innermost cause.
std::string hdf5_message();

/// Formats as hdf5_message() does when the text is made, which is after the condition of a require() has been
/// tried.
struct Hdf5Reason {};
inline constexpr Hdf5Reason hdf5_reason;

/// Takes over `id`, or throws Error "<what>: <HDF5's message>" when it is not valid.
Hdf5Handle hdf5_own(hid_t id, const std::string& what);
/// Throws Error the same way when `status` says that a call failed.
void hdf5_check(herr_t status, const std::string& what);

}  // namespace mixserve::io

template <>
struct fmt::formatter<mixserve::io::Hdf5Reason> : fmt::formatter<std::string> {
    template <class Context>
    auto format(mixserve::io::Hdf5Reason /*reason*/, Context& context) const {
        return fmt::formatter<std::string>::format(mixserve::io::hdf5_message(), context);
    }
};
