// SPDX-License-Identifier: Apache-2.0
#include <array>

#include <fmt/format.h>

#include "cli/command_line.hpp"
#include "cli/json.hpp"
#include "cli/session.hpp"
#include "cli/text.hpp"

namespace vmgraft::cli {

namespace {

constexpr auto kForce = "replace an image of that name; VMs that stand on the old one keep it";

void answer_image(Session& session, const ImageInfo& image) {
  session.answer(image_json(image), image.name + "\n");
}

class ImageListVerb final : public Verb {
 public:
  void declare(Arguments& args) override {
    args.flag("--available", available_, "the catalogue: what `image pull` knows by name");
  }

  int run(Session& session) override {
    if (available_) {
      const auto entries = session.manager().catalogue();
      session.answer(catalogue_json(entries), catalogue_text(session.terminal(), entries));
    } else {
      const auto images = session.manager().images();
      session.answer(images_json(images), images_text(session.terminal(), images));
    }
    return 0;
  }

 private:
  bool available_ = false;
};

class ImageBuildVerb final : public Verb {
 public:
  void declare(Arguments& args) override {
    args.required("RECIPE", request_.recipe, "micro (a kernel and busybox) or debian-12");
    args.text("--name", "NAME", request_.name, "name of the image; without it the recipe's");
    args.flag("--force", request_.force, kForce);
  }

  int run(Session& session) override {
    answer_image(session, session.manager().image_build(request_));
    return 0;
  }

 private:
  ImageBuildRequest request_;
};

class ImageImportVerb final : public Verb {
 public:
  void declare(Arguments& args) override {
    args.required("FILE", file_, "a qcow2 or raw disk image");
    args.optional("NAME", request_.name, "name of the image; without it the file's");
    args.choice("--format", {kFormats.begin(), kFormats.end()}, format_, "what the file is; without it by its content");
    args.flag("--agent", request_.agent, "a guest agent answers in it");
    args.flag("--cloud-init", request_.cloud_init, "cloud-init runs in it and reads a NoCloud seed");
    args.text("--user", "USER", request_.default_user, "its login user");
    args.flag("--force", request_.force, kForce);
  }

  int run(Session& session) override {
    request_.file = file_;
    if (format_) request_.format = kFormats.at(*format_);
    answer_image(session, session.manager().image_import(request_));
    return 0;
  }

 private:
  static constexpr std::array kFormats{"qcow2", "raw"};
  std::string file_;
  std::optional<std::size_t> format_;
  ImageImportRequest request_;
};

class ImagePullVerb final : public Verb {
 public:
  void declare(Arguments& args) override {
    args.required("NAME|URL", request_.source, "an entry of `vmgraft image list --available`, or an http(s) URL");
    args.text("--name", "NAME", request_.name, "name of the image; without it the entry's or the file's");
    args.text("--sha256", "SUM", request_.sha256, "what the download must be");
    args.flag("--force", request_.force, kForce);
  }

  int run(Session& session) override {
    answer_image(session, session.manager().image_pull(request_));
    return 0;
  }

 private:
  ImagePullRequest request_;
};

class ImageDeleteVerb final : public Verb {
 public:
  void declare(Arguments& args) override { args.several("NAME", names_, "images to forget"); }

  int run(Session& session) override {
    for_each_name(session, "images", names_, [&](const std::string& name) {
      const std::vector<std::string> removed = session.manager().image_delete(name);
      session.notice(
          fmt::format("deleted '{}'{}", name, removed.empty() ? "; its layer stays for what stands on it" : ""));
      return removed_object(name, removed);
    });
    return 0;
  }

 private:
  std::vector<std::string> names_;
};

}  // namespace

std::unique_ptr<Verb> make_image_list() {
  return std::make_unique<ImageListVerb>();
}
std::unique_ptr<Verb> make_image_build() {
  return std::make_unique<ImageBuildVerb>();
}
std::unique_ptr<Verb> make_image_import() {
  return std::make_unique<ImageImportVerb>();
}
std::unique_ptr<Verb> make_image_pull() {
  return std::make_unique<ImagePullVerb>();
}
std::unique_ptr<Verb> make_image_delete() {
  return std::make_unique<ImageDeleteVerb>();
}

}  // namespace vmgraft::cli
