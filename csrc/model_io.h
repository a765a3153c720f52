// The model file: text, one fact a line, versioned, strict (docs/model-format.md).
#pragma once

#include <string>
#include <string_view>

#include "tree.h"

namespace qgbdt {

std::string model_to_text(const Model& model);

// Throws ModelFormatError unless the text is exactly what model_to_text would write for a sound
// model: every child id, feature id, threshold and size is proved before the model is used.
Model model_from_text(std::string_view text);

// The objectives' names: in files, in parameters and in messages.
const char* objective_name(ObjectiveKind kind);
bool objective_from_name(std::string_view name, ObjectiveKind* kind);
const char* link_name(Link link);
bool link_from_name(std::string_view name, Link* link);

}  // namespace qgbdt
