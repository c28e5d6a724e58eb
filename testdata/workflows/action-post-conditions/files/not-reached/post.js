console.log('post not-reached of ' + process.env.GITHUB_JOB);
