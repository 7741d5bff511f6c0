#include "base/file_calls.h"

#include <algorithm>

namespace mixserve {

size_t FileCalls::begin(const char* verb, const std::string& path) {
    const std::lock_guard lock(mutex_);
    auto place = std::find_if(places_.begin(), places_.end(), [](const Call& call) { return !call.open; });
    if (place == places_.end()) place = places_.emplace(places_.end());
    place->text.assign(verb).append(" '").append(path).append("'");
    place->number = ++n_calls_;
    place->open = true;
    return static_cast<size_t>(place - places_.begin());
}

void FileCalls::end(size_t place) {
    const std::lock_guard lock(mutex_);
    places_[place].open = false;
}

std::optional<FileCalls::Call> FileCalls::at(size_t place) const {
    const std::lock_guard lock(mutex_);
    return place < places_.size() && places_[place].open ? std::optional(places_[place]) : std::nullopt;
}

size_t FileCalls::n_places() const {
    const std::lock_guard lock(mutex_);
    return places_.size();
}

}  // namespace mixserve
