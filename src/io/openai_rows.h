#pragma once

#include "base/json.h"
#include "io/rows.h"

namespace mixserve::io {

/// A row of OpenAI's batch output (rows.h).
ordered_json openai_row(const Result& result, const RowContext& context);

}  // namespace mixserve::io
