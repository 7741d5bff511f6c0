#pragma once

namespace mixserve::app {

/// What this program was built from and with. Written by CMake: app/build_info.cpp.in.
struct BuildInfo {
    const char* version;
    const char* git_revision;  // "unknown" where the sources were neither a clone nor an archive of git's
    bool git_dirty;            // files differ from that revision
    const char* compiler;
    const char* build_type;
    const char* flags;
    struct Library {
        const char* name;
        const char* version;
    };
    // Those that have no function that tells; ends with a null name.
    const Library* libraries;
};
extern const BuildInfo build_info;

}  // namespace mixserve::app
