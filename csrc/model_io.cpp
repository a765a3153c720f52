#include "model_io.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "binning.h"
#include "support/check.h"
#include "support/crc32.h"

namespace qgbdt {
namespace {

constexpr std::string_view kMagic = "qgbdt-model";
constexpr std::string_view kVersions[] = {"1", "2", "3"};
constexpr size_t kPlain = 0, kOfCategories = 1, kOfMore = 2;  // places among them
constexpr std::string_view kHex = "0123456789abcdef";

constexpr std::pair<ObjectiveKind, const char*> kObjectives[] = {
    {ObjectiveKind::regression, "regression"},
    {ObjectiveKind::l1, "l1"},
    {ObjectiveKind::huber, "huber"},
    {ObjectiveKind::fair, "fair"},
    {ObjectiveKind::quantile, "quantile"},
    {ObjectiveKind::mape, "mape"},
    {ObjectiveKind::cross_entropy, "cross_entropy"},
    {ObjectiveKind::poisson, "poisson"},
    {ObjectiveKind::gamma, "gamma"},
    {ObjectiveKind::tweedie, "tweedie"},
    {ObjectiveKind::aft, "aft"},
    {ObjectiveKind::cox, "cox"},
    {ObjectiveKind::binary, "binary"},
    {ObjectiveKind::multiclass, "multiclass"},
    {ObjectiveKind::multiclassova, "multiclassova"},
    {ObjectiveKind::lambdarank, "lambdarank"},
    {ObjectiveKind::rank_xendcg, "rank_xendcg"},
    {ObjectiveKind::custom, "custom"},
};

constexpr const char* kLinks[] = {"identity", "logistic", "softmax", "exponential"};

constexpr size_t kChecksumLine = 9 + 8 + 1;  // "checksum " + 8 digits + newline

std::string checksum_line(std::string_view body) {
  const uint32_t crc = crc32({reinterpret_cast<const uint8_t*>(body.data()), body.size()});
  std::string line = "checksum ";
  for (int shift = 28; shift >= 0; shift -= 4) line += kHex[(crc >> shift) & 15];
  return line + '\n';
}

// Shortest digits that read back as the same bits.
template <class T>
std::string_view digits(T x, char (&buffer)[32]) {
  return {buffer, size_t(std::to_chars(buffer, buffer + sizeof buffer, x).ptr - buffer)};
}

// The oldest version that can say what is to be said.
size_t version_of(const Model& model) {
  if (model.has_linear_leaves() || model.zero_is_missing) return kOfMore;
  return model.has_categories() ? kOfCategories : kPlain;
}

// ---- writing ----

class Writer {
 public:
  void word(std::string_view w) {
    if (!text_.empty() && text_.back() != '\n') text_ += ' ';
    text_ += w;
  }
  template <class T>
  void number(T x) {
    char buffer[32];
    word(digits(x, buffer));
  }
  void end_line() { text_ += '\n'; }
  std::string take_with_checksum() {
    text_ += checksum_line(text_);
    return std::move(text_);
  }

 private:
  std::string text_;
};

// A name in quotes, with \" \\ and \u00XX for control characters (a subset of JSON's escapes).
std::string quote(std::string_view name) {
  std::string out = "\"";
  for (char c : name) {
    if (c == '"' || c == '\\') out += '\\';
    if (uint8_t(c) < 0x20) {
      out += "\\u00";
      out += kHex[uint8_t(c) >> 4];
      out += kHex[uint8_t(c) & 15];
    } else {
      out += c;
    }
  }
  return out + '"';
}

void write_values(Writer& out, const Categories& values) {
  const auto write_all = [&](std::string_view kind, const auto& some, const auto& write) {
    out.word(kind);
    out.number(some.size());
    for (const auto& value : some) {
      out.end_line();
      write(value);
    }
  };
  if (const auto* numbers = std::get_if<std::vector<double>>(&values))
    write_all("numbers", *numbers, [&](double value) { out.number(value); });
  if (const auto* strings = std::get_if<std::vector<std::string>>(&values))
    write_all("strings", *strings, [&](const std::string& value) { out.word(quote(value)); });
}

// Hexadecimal digits of four codes each, the first code in the lowest bit of the first digit.
std::string digits_of(const CategorySet& set, int32_t n_codes) {
  std::string out(size_t(n_codes + 3) / 4, '0');
  for (size_t i = 0; i < out.size(); ++i) out[i] = kHex[set.words[i / 16] >> i % 16 * 4 & 15];
  return out;
}

void write_node(Writer& out, const Node& node, const Tree& tree, const Model& model) {
  const size_t index = size_t(&node - tree.data());
  const bool is_linear = !tree.linear.empty() && !tree.linear.terms_of(index).empty();
  if (node.is_categorical) {
    out.word("categories");
    out.number(node.feature);
    out.word(digits_of(tree.categories(node), n_categories(model.categories[node.feature])));
  } else if (node.feature >= 0) {
    out.word("split");
    out.number(node.feature);
    out.number(node.threshold);
  }
  if (node.feature >= 0) {
    out.word(node.missing_left ? "missing-left" : "missing-right");
    out.number(node.left);
    out.number(node.right);
    out.number(node.gain);
  } else {
    out.word(is_linear ? "linear" : "leaf");
    out.number(node.value);
  }
  if (is_linear) {
    out.number(tree.linear.constants[index]);
    out.number(tree.linear.terms_of(index).size());
    for (const LinearTerm& term : tree.linear.terms_of(index)) {
      out.number(term.feature);
      out.number(term.coefficient);
    }
  }
  out.number(node.count);
  out.number(node.sum_hessian);
  out.end_line();
}

// ---- reading ----

// A word of the file in a message: short, and ASCII even where the file is not.
std::string shown(std::string_view word) {
  std::string out = "'";
  for (char c : word.substr(0, 40)) out += ' ' <= c && c <= '~' ? c : '?';
  return out + (word.size() > 40 ? "...'" : "'");
}

// Well-formed: no overlong forms, no surrogates, nothing above U+10FFFF.
bool is_utf8(std::string_view s) {
  constexpr uint32_t kLeast[] = {0, 0x80, 0x800, 0x10000};
  for (size_t i = 0; i < s.size(); ++i) {
    const uint8_t first = uint8_t(s[i]);
    if (first < 0x80) continue;
    if (first < 0xC0 || first > 0xF7) return false;
    const size_t n_more = first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
    if (s.size() - i <= n_more) return false;
    uint32_t code = first & (0x3Fu >> n_more);
    for (size_t k = 1; k <= n_more; ++k) {
      const uint8_t next = uint8_t(s[++i]);
      if ((next & 0xC0) != 0x80) return false;
      code = code << 6 | (next & 0x3Fu);
    }
    if (code < kLeast[n_more] || code > 0x10FFFF || (0xD800 <= code && code < 0xE000)) return false;
  }
  return true;
}

// Accepts only what Writer writes: one space between words, numbers and escapes in one spelling.
class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  [[noreturn]] void fail(const std::string& what) const {
    throw ModelFormatError("not a sound qgbdt model: " + what + " (line " + std::to_string(line_) +
                           ")");
  }

  void next_line() {
    const size_t end = rest_.find('\n');
    if (end == std::string_view::npos) fail("the text ends early");
    current_ = rest_.substr(0, end);
    rest_ = rest_.substr(end + 1);
    first_word_ = true;
    ++line_;
  }

  std::string_view word() {
    separator();
    const size_t end = std::min(current_.find(' '), current_.size());
    if (end == 0) fail("a word is missing");
    const std::string_view w = current_.substr(0, end);
    current_ = current_.substr(end);
    return w;
  }

  void expect(std::string_view w) {
    if (word() != w) fail("expected '" + std::string(w) + "'");
  }

  template <class T>
  T number(T low, T high) {
    const std::string_view w = word();
    T x{};
    const auto [end, error] = std::from_chars(w.data(), w.data() + w.size(), x);
    if (error != std::errc() || end != w.data() + w.size()) fail(shown(w) + " is not a number");
    if (!(low <= x && x <= high)) fail(shown(w) + " is out of range");
    char buffer[32];
    const std::string_view expected = digits(x, buffer);
    if (w != expected) fail(shown(w) + " must be written " + shown(expected));
    return x;
  }

  // How many things follow. Even the smallest takes bytes, so a false size claims little memory.
  template <class T>
  T size(T low, std::string_view smallest) {
    return number<T>(low, T(std::min<size_t>(rest_.size() / smallest.size(), 1 << 30)));
  }

  double real() { return number(-kMaxReal, kMaxReal); }

  std::string quoted() {
    separator();
    if (current_.empty() || current_[0] != '"') fail("expected a quoted name");
    std::string out;
    size_t i = 1;
    for (;; ++i) {
      if (i >= current_.size()) fail("a quoted name does not end");
      char c = current_[i];
      if (c == '"') break;
      if (uint8_t(c) < 0x20) fail("a control character in a name");
      if (c == '\\') c = escaped(&i);
      out += c;
    }
    if (!is_utf8(out)) fail("a name is not UTF-8");
    current_ = current_.substr(i + 1);
    return out;
  }

  void end_line() {
    if (!current_.empty()) fail("the line goes on");
  }

  size_t version = kPlain;  // of the text, as its first line says

  bool at_line_end() const { return current_.empty(); }
  bool at_end() const { return rest_.empty(); }

  static constexpr double kMaxReal = 1.7976931348623157e308;

 private:
  void separator() {
    if (!std::exchange(first_word_, false)) {
      if (current_.empty() || current_[0] != ' ') fail("a word is missing");
      current_ = current_.substr(1);
    }
  }

  char escaped(size_t* i) {
    const std::string_view tail = current_.substr(*i + 1);
    if (!tail.empty() && (tail[0] == '"' || tail[0] == '\\')) {
      *i += 1;
      return tail[0];
    }
    const std::string_view code = tail.substr(0, 5);
    if (code.size() < 5 || !code.starts_with("u00") || (code[3] != '0' && code[3] != '1') ||
        kHex.find(code[4]) == kHex.npos)
      fail("a bad escape in a name");
    *i += 5;
    return char(16 * (code[3] - '0') + kHex.find(code[4]));
  }

  std::string_view rest_, current_;
  bool first_word_ = true;
  int64_t line_ = 0;
};

std::string_view checked_body(std::string_view text) {
  const std::string magic = std::string(kMagic) + ' ';
  if (!text.starts_with(magic))
    throw ModelFormatError("not a qgbdt model: it must begin with " + shown(magic));
  const std::string_view version = text.substr(magic.size(), text.find('\n') - magic.size());
  if (std::find(std::begin(kVersions), std::end(kVersions), version) == std::end(kVersions))
    throw ModelFormatError("a qgbdt model of version " + shown(version) +
                           ", but this qgbdt reads versions 1 to 3");
  if (text.size() < magic.size() + version.size() + 1 + kChecksumLine)
    throw ModelFormatError("the model text ends early");
  const std::string_view body = text.substr(0, text.size() - kChecksumLine);
  if (text.substr(body.size()) != checksum_line(body))
    throw ModelFormatError("the model text is damaged: its checksum does not match");
  return body;
}

// Each greater than the one before it.
template <class Values, class ReadValue>
Values read_ascending(Reader& in, int32_t n, const ReadValue& read_value) {
  Values values;
  values.reserve(n);
  for (int32_t i = 0; i < n; ++i) {
    in.end_line();
    in.next_line();
    values.push_back(read_value());
    if (i > 0 && !(values[i - 1] < values[i])) in.fail("the categories are not in order");
  }
  return values;
}

// What follows a feature's name: nothing, or its categories.
Categories read_values(Reader& in) {
  if (in.at_line_end()) return {};
  const std::string_view kind = in.word();
  if (kind != "numbers" && kind != "strings") in.fail("expected 'numbers' or 'strings'");
  const int32_t n = in.number<int32_t>(0, kMaxValueBins);
  if (kind == "numbers")
    return read_ascending<std::vector<double>>(in, n, [&] { return in.real(); });
  return read_ascending<std::vector<std::string>>(in, n, [&] { return in.quoted(); });
}

CategorySet read_set(Reader& in, int32_t n_codes) {
  const std::string_view word = in.word();
  CategorySet set;
  for (size_t i = 0; i < std::min<size_t>(word.size(), 64); ++i)
    if (const size_t digit = kHex.find(word[i]); digit != kHex.npos)
      set.words[i / 16] |= uint64_t(digit) << i % 16 * 4;
  for (int32_t code = n_codes; code <= kMaxValueBins; ++code) set.erase(code);
  if (word != digits_of(set, n_codes)) in.fail(shown(word) + " is not a set of the categories");
  return set;
}

// A leaf's constant and terms.
LinearLeaf read_linear(Reader& in, const Model& model) {
  LinearLeaf leaf{in.real()};
  const int32_t n_terms = in.number<int32_t>(1, model.n_features());
  for (int32_t i = 0, least = 0; i < n_terms; ++i) {
    const int32_t feature = in.number<int32_t>(least, model.n_features() - 1);
    if (model.is_categorical(feature)) in.fail("a leaf is linear in a categorical feature");
    leaf.terms.push_back({feature, in.real()});
    least = feature + 1;
  }
  return leaf;
}

Node read_node(Reader& in, int32_t index, int32_t n_nodes, const Model& model, Tree& tree,
               std::vector<bool>& has_parent) {
  Node node;
  LinearLeaf linear;
  in.next_line();
  const std::string_view kind = in.word();
  if (kind == "split" || kind == "categories") {
    node.feature = in.number<int32_t>(0, model.n_features() - 1);
    node.is_categorical = kind == "categories";
    if (node.is_categorical != model.is_categorical(node.feature))
      in.fail("a feature is split as if it were of the other kind");
    if (node.is_categorical) {
      node.threshold = double(tree.category_sets.size());
      tree.category_sets.push_back(read_set(in, n_categories(model.categories[node.feature])));
    } else {
      // -inf: only -inf goes left; +inf: every value goes left and missing ones right
      node.threshold = in.number<double>(-HUGE_VAL, HUGE_VAL);
    }
    const std::string_view side = in.word();
    if (side != "missing-left" && side != "missing-right")
      in.fail("expected 'missing-left' or 'missing-right'");
    node.missing_left = side == "missing-left";
    for (int32_t* child : {&node.left, &node.right}) {
      *child = in.number<int32_t>(index + 1, n_nodes - 1);  // after its parent: no cycles
      if (has_parent[*child]) in.fail("a node has two parents");
      has_parent[*child] = true;
    }
    node.gain = in.number<double>(0, Reader::kMaxReal);
  } else if (kind == "leaf") {
    node.value = in.real();
  } else if (kind == "linear" && in.version >= kOfMore) {
    node.value = in.real();
    linear = read_linear(in, model);
  } else {
    in.fail("expected 'split', 'categories' or 'leaf'" +
            std::string(in.version >= kOfMore ? ", or 'linear'" : ""));
  }
  node.count = in.number<int64_t>(0, INT64_MAX);
  node.sum_hessian = in.number<double>(0, Reader::kMaxReal);
  in.end_line();
  if (in.version >= kOfMore) tree.linear.add(linear.constant, linear.terms);
  return node;
}

Tree read_tree(Reader& in, int64_t tree_index, const Model& model) {
  in.next_line();
  in.expect("tree");
  in.number<int64_t>(tree_index, tree_index);
  in.expect("nodes");
  const int32_t n_nodes = in.size<int32_t>(1, "leaf 0 0 0\n");
  in.end_line();
  Tree tree;
  tree.reserve(n_nodes);
  std::vector<bool> has_parent(n_nodes, false);
  has_parent[0] = true;
  for (int32_t i = 0; i < n_nodes; ++i) {
    tree.push_back(read_node(in, i, n_nodes, model, tree, has_parent));
    if (!has_parent[i]) in.fail("a node has no parent");
  }
  if (tree.linear.empty()) tree.linear = {};
  return tree;
}

}  // namespace

const char* objective_name(ObjectiveKind kind) {
  for (const auto& [k, name] : kObjectives)
    if (k == kind) return name;
  return "";
}

bool objective_from_name(std::string_view name, ObjectiveKind* kind) {
  for (const auto& [k, n] : kObjectives) {
    if (name != n) continue;
    *kind = k;
    return true;
  }
  return false;
}

const char* link_name(Link link) { return kLinks[int(link)]; }

bool link_from_name(std::string_view name, Link* link) {
  const auto found = std::find(std::begin(kLinks), std::end(kLinks), name);
  if (found == std::end(kLinks)) return false;
  *link = Link(found - std::begin(kLinks));
  return true;
}

std::string model_to_text(const Model& model) {
  Writer out;
  const bool has_categories = model.has_categories();
  out.word(kMagic);
  out.word(kVersions[version_of(model)]);
  out.end_line();
  out.word("objective");
  out.word(objective_name(model.objective));
  if (model.custom) {
    out.word(quote(model.custom->name));
    out.word(link_name(model.custom->link));
    out.word(quote(model.custom->source));
    out.word(quote(model.custom->parameters));
  }
  out.end_line();
  out.word("outputs");
  out.number(model.n_outputs);
  out.end_line();
  out.word("base_score");
  for (double score : model.base_score) out.number(score);
  out.end_line();
  out.word("features");
  out.number(model.n_features());
  out.end_line();
  for (int32_t f = 0; f < model.n_features(); ++f) {
    out.word(quote(model.feature_names[f]));
    if (has_categories) write_values(out, model.categories[f]);
    out.end_line();
  }
  if (has_categories) {
    out.word("unseen_category");
    out.word(model.refuses_unseen ? "error" : "missing");
    out.end_line();
  }
  if (model.zero_is_missing) {
    out.word("zero");
    out.word("missing");
    out.end_line();
  }
  out.word("trees");
  out.number(model.trees.size());
  out.end_line();
  for (size_t i = 0; i < model.trees.size(); ++i) {
    out.word("tree");
    out.number(i);
    out.word("nodes");
    out.number(model.trees[i].size());
    out.end_line();
    for (const Node& node : model.trees[i]) write_node(out, node, model.trees[i], model);
  }
  return out.take_with_checksum();
}

Model model_from_text(std::string_view text) {
  Reader in(checked_body(text));
  Model model;
  in.next_line();  // the magic and the version, already checked
  in.expect(kMagic);
  in.version = size_t(std::find(std::begin(kVersions), std::end(kVersions), in.word()) - kVersions);
  in.next_line();
  in.expect("objective");
  if (!objective_from_name(in.word(), &model.objective)) in.fail("unknown objective");
  if (model.objective == ObjectiveKind::custom) {
    CustomObjective& custom = model.custom.emplace();
    custom.name = in.quoted();
    if (!link_from_name(in.word(), &custom.link)) in.fail("unknown link");
    custom.source = in.quoted();
    custom.parameters = in.quoted();
  }
  in.end_line();
  in.next_line();
  in.expect("outputs");
  model.n_outputs = in.size<int32_t>(1, " 0");
  if (!fits_outputs(model.objective, model.n_outputs))
    in.fail("the objective does not have that many outputs");
  in.end_line();
  in.next_line();
  in.expect("base_score");
  model.base_score.reserve(model.n_outputs);
  for (int32_t k = 0; k < model.n_outputs; ++k) model.base_score.push_back(in.real());
  in.end_line();
  in.next_line();
  in.expect("features");
  const int32_t n_features = in.size<int32_t>(1, "\"\"\n");
  in.end_line();
  model.feature_names.reserve(n_features);
  for (int32_t f = 0; f < n_features; ++f) {
    in.next_line();
    model.feature_names.push_back(in.quoted());
    if (in.version >= kOfCategories) model.categories.push_back(read_values(in));
    in.end_line();
  }
  if (in.version == kOfCategories && !model.has_categories())
    in.fail("version 2 is for models with categories");
  if (!model.has_categories()) model.categories.clear();
  if (model.has_categories()) {
    in.next_line();
    in.expect("unseen_category");
    const std::string_view unseen = in.word();
    if (unseen != "missing" && unseen != "error") in.fail("expected 'missing' or 'error'");
    model.refuses_unseen = unseen == "error";
    in.end_line();
  }
  in.next_line();
  std::string_view word = in.word();
  if (word == "zero" && in.version >= kOfMore) {
    in.expect("missing");
    model.zero_is_missing = true;
    in.end_line();
    in.next_line();
    word = in.word();
  }
  if (word != "trees") in.fail("expected 'trees'");
  const int64_t n_trees = in.size<int64_t>(0, "tree 0 nodes 1\nleaf 0 0 0\n");
  if (n_trees % model.n_outputs != 0) in.fail("an iteration is not complete");
  in.end_line();
  model.trees.reserve(n_trees);
  for (int64_t t = 0; t < n_trees; ++t) model.trees.push_back(read_tree(in, t, model));
  if (!in.at_end()) in.fail("the text goes on after the last tree");
  if (model.zero_is_missing && model.has_linear_leaves())
    in.fail("leaves are linear in numbers, but zero is missing");
  if (version_of(model) < in.version)
    in.fail("version 3 is for models with linear leaves or missing zeros");
  return model;
}

}  // namespace qgbdt
