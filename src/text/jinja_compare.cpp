#include <cmath>

#include "text/jinja_value.h"

namespace mixserve::text::jinja {
namespace {

/// Python compares int and float exactly, so no int is rounded to a double first.
int compare_numbers(const Value& a, const Value& b, bool* unordered) {
    const auto x = a.if_int(), y = b.if_int();
    if (x && y) return *x < *y ? -1 : *x > *y ? 1 : 0;
    const double dx = *a.if_number(), dy = *b.if_number();
    if (std::isnan(dx) || std::isnan(dy)) {
        *unordered = true;
        return 1;
    }
    constexpr double exact = 9007199254740992.0;  // 2^53
    if ((x || y) && std::isfinite(dx) && std::isfinite(dy) && std::abs(dx) >= exact && std::abs(dx) < 1e38 &&
        std::abs(dy) < 1e38) {
        const Int ix = x ? *x : static_cast<Int>(dx), iy = y ? *y : static_cast<Int>(dy);
        return ix < iy ? -1 : ix > iy ? 1 : 0;
    }
    return dx < dy ? -1 : dx > dy ? 1 : 0;
}

}  // namespace

bool equals(Budget& budget, const Value& a, const Value& b) {
    budget.steps(1);
    if (a.is_undefined() || b.is_undefined()) return a.is_undefined() && b.is_undefined();
    if (a.if_number() && b.if_number()) {
        bool unordered = false;
        return compare_numbers(a, b, &unordered) == 0 && !unordered;
    }
    if (const Str* x = a.if_str(), *y = b.if_str(); x && y) {
        if (x == y) return true;
        if (x->bytes.size() != y->bytes.size()) return false;
        budget.scan(x->bytes.size());
        return x->bytes == y->bytes;
    }
    if (const Seq* x = a.if_seq(), *y = b.if_seq(); x && y) {
        if (x == y) return true;
        if (x->tuple != y->tuple || x->items.size() != y->items.size()) return false;
        for (size_t i = 0; i < x->items.size(); ++i) {
            if (!equals(budget, x->items[i], y->items[i])) return false;
        }
        return true;
    }
    if (const Dict* x = a.if_dict(), *y = b.if_dict(); x && y) {
        if (x == y) return true;
        if (x->items.size() != y->items.size()) return false;
        for (const auto& [key, value] : x->items) {
            const Value* other = y->find(budget, key);
            if (!other || !equals(budget, value, *other)) return false;
        }
        return true;
    }
    if (a.if_object() && b.if_object()) return a.if_object() == b.if_object();
    return a.is_none() && b.is_none();
}

int compare(Budget& budget, const Value& a, const Value& b, const char* symbol, bool* unordered) {
    budget.steps(1);
    if (const Undefined* u = a.if_undefined() ? a.if_undefined() : b.if_undefined())
        raise("{}", u->message());
    if (a.if_number() && b.if_number()) return compare_numbers(a, b, unordered);
    if (const Str* x = a.if_str(), *y = b.if_str(); x && y) {
        budget.scan(std::min(x->bytes.size(), y->bytes.size()));
        return x->bytes.compare(y->bytes);
    }
    if (const Seq* x = a.if_seq(), *y = b.if_seq(); x && y && x->tuple == y->tuple) {
        for (size_t i = 0; i < std::min(x->items.size(), y->items.size()); ++i) {
            if (equals(budget, x->items[i], y->items[i])) continue;
            return compare(budget, x->items[i], y->items[i], symbol, unordered);
        }
        return x->items.size() < y->items.size() ? -1 : x->items.size() > y->items.size() ? 1 : 0;
    }
    raise("'{}' not supported between instances of '{}' and '{}'", symbol, type_name(a), type_name(b));
}

bool less(Budget& budget, const Value& a, const Value& b) {
    bool unordered = false;
    const int order = compare(budget, a, b, "<", &unordered);
    return order < 0 && !unordered;
}

}  // namespace mixserve::text::jinja
